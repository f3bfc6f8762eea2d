"""A user's script, host side: run it, read its record, show the page."""
