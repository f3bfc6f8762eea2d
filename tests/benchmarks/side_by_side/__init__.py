"""The cost of the harness, compared with ways to do the same without it, and with its targets.

nox -s bench
"""

MARKS = "BENCHMARK_MARKS"
"""Environment variable: the file into which processes of a session write when its parts begin (`marks`)."""

CONTROLLER, WORKER = "controller", "worker"
"""Processes of pytest-xdist, as `marks` names them."""
