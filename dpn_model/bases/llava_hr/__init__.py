"""LLaVA-HR: two towers and the adapters between them."""
