"""Pixel shuffle: neighbouring patches side by side through one MLP, as InternVL projects (arXiv 2404.16821)."""
