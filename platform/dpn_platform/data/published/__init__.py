"""What a published set is: schema and manifest, what its small columns tell, and whether it is sound. Knows no Ray."""
