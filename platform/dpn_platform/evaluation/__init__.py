"""Evaluation: a checkpoint on the held-out split; accuracy, cost and routes from what really ran."""
