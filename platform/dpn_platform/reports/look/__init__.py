"""What all reports share: wording, styles of methods, places of labels, picture cards, the page around them."""
