"""Watch a user's script from inside its process. The script needs no change."""
