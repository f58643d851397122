"""Raw files to validated shards."""
