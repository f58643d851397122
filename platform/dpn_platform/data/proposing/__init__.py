"""Proposals for the rows of a published set: a Ray Data job that publishes them as a new version, or elsewhere."""
