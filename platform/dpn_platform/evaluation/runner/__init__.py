"""Runs a benchmark: questions in shards over Ray Data actors, answer files that grow, score and cost beside them."""
