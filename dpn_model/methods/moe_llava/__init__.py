"""MoE-LLaVA: copies of the FFN as experts of every other layer (arXiv 2401.15947)."""
