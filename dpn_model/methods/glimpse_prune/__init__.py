"""GlimpsePrune: a learned row's glimpse at picture and question says which tokens stay (arXiv 2508.01548)."""
