"""Files of questions, gold and answers: what they are, what they hold, and how their records meet."""
