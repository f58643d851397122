"""Random dropping of visual tokens."""
