"""Downsampling: pictures of fewer pixels, so that the tower makes fewer patches."""
