"""VisPCO: a predictor that spends a budget of visual tokens on every sample in its own shape (arXiv 2604.15188)."""
