"""Benchmarks of the field: one file each, with its prompt, its parser and its metric. Numpy and pyarrow, never torch."""
