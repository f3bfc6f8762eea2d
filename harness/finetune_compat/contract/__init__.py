"""Values that every room shares. Standard library only: the host and the cell side import them."""
