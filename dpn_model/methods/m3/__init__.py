"""M3: pictures pooled to any of several scales, all of which one model is trained with (arXiv 2405.17430)."""
