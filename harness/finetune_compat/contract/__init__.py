"""Values that all rooms share. Standard library only, because the host side and the cell side import them."""
