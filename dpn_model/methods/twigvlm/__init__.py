"""TwigVLM: a twig grown on an early layer says which tokens the rest of the decoder needs (arXiv 2503.14075)."""
