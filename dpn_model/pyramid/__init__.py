"""The Dynamic Pyramid Network itself: router, pooling experts, routing loss, and its static relative."""
