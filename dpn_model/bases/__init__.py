"""Base models: encoder, projector and decoder, composed from transformers' own parts."""
