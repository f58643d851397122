"""Gamma-MoD: most layers run on some of the image tokens (arXiv 2410.13859)."""
