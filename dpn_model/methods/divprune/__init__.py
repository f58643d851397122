"""DivPrune: the tokens that differ most from each other (arXiv 2503.02175)."""
