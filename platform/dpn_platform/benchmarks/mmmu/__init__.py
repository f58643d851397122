"""MMMU: choices and open answers of college exams."""
