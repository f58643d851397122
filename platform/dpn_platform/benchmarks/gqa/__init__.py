"""GQA: exact match, and the official program's distribution."""
