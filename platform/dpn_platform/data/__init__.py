"""Data: raw files to validated shards (`ingest`), and shards to a stream whose order is a pure function (`stream`).

Import the modules, not this package: reading a manifest must not cost the import of Ray.
"""
