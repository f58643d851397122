"""Aliases of a study: which point each names, and what it takes for it to name another."""
