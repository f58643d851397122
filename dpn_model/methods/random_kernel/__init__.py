"""Random-kernel pyramid: a kernel drawn for every sample."""
