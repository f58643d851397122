"""Evaluation: a held-out split answered by a Ray Data job, scored, with the cost and the routes of what really ran."""
