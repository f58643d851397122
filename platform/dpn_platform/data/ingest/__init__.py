"""From raw files to a published set: `job` runs it all; sources, slices, checks of text and pictures, shards, assembly.

Every record ends in a shard or, with its reason, in the quarantine table.
"""
