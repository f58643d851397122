"""VisionZip: the patches that CLIP's class token looks at most, and means over the others (arXiv 2412.04467)."""
