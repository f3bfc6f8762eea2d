"""One linear file per flow, to be read from top to bottom. Duplication between flows is intended."""
