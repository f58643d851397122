"""LLaVA-PruMerge and PruMerge+: outliers of CLIP's attention, each with its nearest merged in (arXiv 2403.15388)."""
