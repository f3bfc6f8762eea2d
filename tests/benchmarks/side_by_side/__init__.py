"""What the harness costs, beside the ways it could be done without it, and beside what was promised.

nox -s bench
"""

MARKS = "BENCHMARK_MARKS"
"""Environment variable: the file into which processes of a session write when its parts begin (`marks`)."""

CONTROLLER, WORKER = "controller", "worker"
"""Processes of pytest-xdist, as `marks` calls them."""
