"""Boxes on a picture that a model is shown and answers by index (ChatRex): geometry, records, texts. No torch."""
