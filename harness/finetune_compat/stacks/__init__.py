"""A matrix row becomes a lock, the lock an environment, and an environment answers questions."""
