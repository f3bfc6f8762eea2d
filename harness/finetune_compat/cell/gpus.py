"""Assign a GPU to each worker: xdist hooks, in xdist's controller.

GPUs are not assigned by worker number. A replacement worker gets the next unused number, so that two workers would
share a GPU while another is idle. Instead, the GPU of an ended worker is free for its replacement. The workers of all
sessions of a run share the GPUs evenly: each holds a lock, which the kernel removes with the session's process.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

GPU = "gpu"
"""Key of the worker's GPU in xdist's `workerinput`."""


class Gpus:
    """Gives each worker its own GPU. With more workers than GPUs, workers share them evenly."""

    def __init__(self, gpus: Sequence[str], locks: Path) -> None:
        """`locks` is a directory that the sessions of a run have in common. They have the same GPUs, in this order."""
        self._gpus, self._locks = gpus, locks
        self._held: dict[str, int] = {}
        """Open lock of each running worker, by worker id."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Called before a worker is started: assign the first of the GPUs with the fewest workers."""
        self._locks.mkdir(parents=True, exist_ok=True)
        for turn, (number, gpu) in ((turn, each) for turn in itertools.count() for each in enumerate(self._gpus)):
            lock = os.open(self._locks / f"{number}-{turn}", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            node.workerinput[GPU], self._held[node.gateway.id] = gpu, lock
            return

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Called when a worker has ended: free its GPU."""
        lock = self._held.pop(node.gateway.id, None)
        if lock is not None:
            os.close(lock)
