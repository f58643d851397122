"""PyramidDrop: at several depths, the tokens that the question looks at most in the next layer (arXiv 2410.17247)."""
