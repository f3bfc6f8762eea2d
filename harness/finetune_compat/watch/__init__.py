"""`compat watch`, host side: run a user's script, read its record and format the page."""
