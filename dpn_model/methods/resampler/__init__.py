"""Resamplers: learned queries that look at all patches, as in Qwen-VL (arXiv 2308.12966) or Honeybee."""
