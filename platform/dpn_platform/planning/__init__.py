"""Planning: what a run or sweep needs and costs, from configurations alone. No weights, no services, no GPU."""
