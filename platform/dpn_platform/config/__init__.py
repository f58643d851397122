"""Configuration: the typed experiment, its YAML, its fingerprint, and where a result came from. Imports no torch."""
