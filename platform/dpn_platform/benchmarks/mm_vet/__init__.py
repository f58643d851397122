"""MM-Vet: open answers, graded by a judge."""
