"""`python -m harness` is `compat`."""

from harness.cli import main

main()
