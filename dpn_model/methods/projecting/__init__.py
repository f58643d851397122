"""What methods that bring a projector of their own share: sizes and plans, and layers that several of them have."""
