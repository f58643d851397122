"""Methods: one contract, and one folder for each."""
