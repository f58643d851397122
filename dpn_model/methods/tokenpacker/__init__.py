"""TokenPacker: every block of patches answers a coarse query of its own (arXiv 2407.02392)."""
