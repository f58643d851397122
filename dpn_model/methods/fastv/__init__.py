"""FastV: behind one early layer, the tokens that the question looks at most (arXiv 2403.06764)."""
