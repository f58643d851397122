"""What turns pictures into visual tokens: towers beyond transformers' own, and the one interface to all of them."""
