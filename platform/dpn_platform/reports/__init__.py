"""Reports: a study's points to a Pareto front, as a page, a picture, tables and JSON."""
