"""Pipelines: a study that goes on night after night, one slot of a schedule at a time."""
