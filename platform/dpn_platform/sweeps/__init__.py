"""Sweeps: a study of controls and trials with Ray Tune and Optuna, its ledger and its resume."""
