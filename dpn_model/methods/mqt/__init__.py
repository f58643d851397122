"""MQT-LLaVA: nested queries, of which the first m are enough (arXiv 2405.19315)."""
