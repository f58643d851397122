"""Colours, names and places of labels."""
