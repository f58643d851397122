"""ChatRex: two towers side by side on one picture (arXiv 2411.18363)."""
