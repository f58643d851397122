"""AVG-LLaVA: a router picks, for every question, how finely its picture is seen (arXiv 2410.02745)."""
