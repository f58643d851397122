"""Static pyramid: one fixed kernel for every sample."""
