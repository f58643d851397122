"""POPE: whether an object is in the picture, in three samplings."""
