"""Vision towers as several bases have them: what they are, and what they cost."""
