"""Detection data sets that users have, as raw sets of our records: one file per kind, read as a stream."""
