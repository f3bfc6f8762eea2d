"""A user's package with an ordinary name."""
