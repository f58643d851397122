"""No method: the base as it is, which every other is compared with."""
