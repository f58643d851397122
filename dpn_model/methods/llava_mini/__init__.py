"""LLaVA-Mini: the words take in the picture before the decoder, which sees one token of it (arXiv 2501.03895)."""
