"""From scores of single questions to intervals, and to the comparison of runs on equal questions."""
