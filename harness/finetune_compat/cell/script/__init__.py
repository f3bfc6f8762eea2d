"""Watch a script of the user's own from inside its process, without its doing anything for it."""
