"""VScan: local and global picks and merging in front of the decoder, a drop half-way through it (arXiv 2505.22654)."""
