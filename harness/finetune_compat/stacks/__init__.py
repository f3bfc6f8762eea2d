"""Read the matrix, lock its stacks, install the locks into environments, and run code in these environments."""
