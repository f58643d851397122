"""The Dynamic Pyramid Network: router, experts, routing loss, budget dial."""
