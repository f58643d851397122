"""Benchmarks of the field: one file each, with prompt, parser and metric. Numpy and pyarrow, never torch."""
