"""How a router routed: over families, over sites, over the training, in pictures."""
