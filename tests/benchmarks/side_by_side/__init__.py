"""What the harness costs, beside the ways it could be done without it: every figure of a table from one run.

nox -s bench
"""
