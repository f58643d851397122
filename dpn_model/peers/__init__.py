"""Rival methods and controls, one per file; they may not import each other."""
