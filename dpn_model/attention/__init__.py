"""Packed causal attention: what attends to what, and the kernels that do it."""
