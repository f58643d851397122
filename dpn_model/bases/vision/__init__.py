"""What bases do with pictures, behind one interface."""
