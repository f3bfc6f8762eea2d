"""Since when, which package, which line: `compat bisect`, `compat blame` and `compat transplant`."""
