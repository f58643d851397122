"""What a published set is: schema, manifest, and what can be told of it without training on it."""
