"""Assign a GPU to each worker: xdist hooks, in xdist's controller.

GPUs are not assigned by worker number. A replacement worker gets the next unused number, so that two workers would
share a GPU while another is idle. Instead, the GPU of an ended worker is free for its replacement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

GPU = "gpu"
"""Key of the worker's GPU in xdist's `workerinput`."""


class Gpus:
    """Gives each worker its own GPU. With more workers than GPUs, workers share them evenly."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = gpus
        self._held: dict[str, str] = {}
        """GPU of each running worker, by worker id."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Called before a worker is started: assign the first of the GPUs with the fewest workers."""
        held = Counter(self._held.values())
        node.workerinput[GPU] = self._held[node.gateway.id] = min(self._gpus, key=lambda gpu: held[gpu])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Called when a worker has ended: free its GPU."""
        self._held.pop(node.gateway.id, None)
