"""MME: yes or no in pairs of one picture, in points."""
