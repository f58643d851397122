"""ScienceQA: choices, with and without a picture."""
