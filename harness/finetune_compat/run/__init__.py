"""`compat run`: which cells run, in which order, how many in parallel and for how long.

    selection   the requested cells, by stack, axis, flow, variant and expression
    priority    which cells a budget runs first, and which it leaves out
    estimate    expected durations of cells, from their earlier durations
    workers     how idle cores are shared among running stacks
    progress    cells done, failed and left, read from a run's observations while it runs

nox and pytest-xdist run the cells; `nox_run` starts nox and follows the run.
"""
