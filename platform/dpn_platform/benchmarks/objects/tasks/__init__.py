"""Benchmarks of a published data set whose records have boxes: what is asked, what is true, and the four of them."""
