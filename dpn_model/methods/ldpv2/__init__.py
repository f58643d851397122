"""LDP-v2, the projector of MobileVLM V2: MLP, pooling, a convolution for positions (arXiv 2402.03766)."""
