"""CDPruner: tokens that differ and concern the question, by a determinantal point process (arXiv 2506.10967)."""
