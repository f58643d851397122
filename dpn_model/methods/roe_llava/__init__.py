"""RoE-LLaVA: every sample skips the layers that it can do without (arXiv 2407.14093)."""
