"""MMBench and its Chinese twin: every question with its rotations."""
