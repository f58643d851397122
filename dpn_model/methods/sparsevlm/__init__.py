"""SparseVLM: the words that the picture resembles rank its tokens, and some of the others are merged (2410.04417)."""
