"""Pooling of grids: what an expert makes of a window, and a site at which one is chosen."""
