"""E-AdaPrune: as many tokens as singular values hold a share of the features' energy (arXiv 2603.05950)."""
