"""This machine: GPUs, CPU features, capacity, child processes, scratch space, files, console."""
