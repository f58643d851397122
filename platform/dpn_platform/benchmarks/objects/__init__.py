"""Answers that name boxes, scored: detection, referring, regions, counting. Plain data in, plain data out."""
