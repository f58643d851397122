"""Data: raw files become shards (`ingest`), lie there with a manifest (`published`), and become batches (`reading`).

Import the modules, not this package: reading a manifest must not cost the import of Ray.
"""
