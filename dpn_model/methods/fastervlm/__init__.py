"""FasterVLM: the patches that CLIP's class token looks at most (arXiv 2412.01818)."""
