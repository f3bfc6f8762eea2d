"""Pure searches: where results change along the releases of a package, which packages change them, which functions."""
