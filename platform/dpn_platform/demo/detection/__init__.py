"""The drawn detection set: coloured shapes that a detector proposed boxes for, asked for by the boxes' numbers."""
