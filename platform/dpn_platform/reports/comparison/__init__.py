"""Runs on benchmarks side by side, and beside the paper's tables."""
