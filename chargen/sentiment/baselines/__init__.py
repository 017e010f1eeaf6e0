"""The systems of the textbooks, kept working so that ours can be set beside them."""
