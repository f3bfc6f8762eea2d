"""Everything that runs inside a cell's environment: standard library, pytest and the stack under test, nothing else."""
