"""DART: behind an early layer, the visual tokens that repeat others least (EMNLP 2025)."""
