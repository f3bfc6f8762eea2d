"""`compat run`: which cells run, in which order, how many in parallel and for how long.

selection   the cells that were asked for, by stack, axis, flow, variant and words
machine     how many stacks at once, and threads each, from cores, memory and GPUs
priority    what a budget is spent on first, and what it leaves out
importance  why a cell is important, from the store and the ledger
estimate    what cells will take, by what they took
workers     how many workers each stack has, while it runs
parts       cells in parts of similar duration, for cores and machines
progress    what is done, failed and left, from a run's observations as they come
cached_run  a run of cached observations
execution   a run with cells to run: start them, follow them, retry, judge
nox_run     the engine of this machine: nox and pytest-xdist run the cells
ray_engine  the engine of a Ray cluster; part_run is what its nodes run
"""
