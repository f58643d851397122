"""C-Abstractor, the convolutional projector of Honeybee (arXiv 2312.06742)."""
