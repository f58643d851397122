"""Models that answer questions about pictures: ours and any of transformers, behind one small interface."""
