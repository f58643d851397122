"""Does a method that chooses per sample choose well? The proof or its refusal, from outcome tables alone."""
