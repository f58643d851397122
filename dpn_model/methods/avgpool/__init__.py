"""Average pooling in front of the base's own projector, or behind it."""
