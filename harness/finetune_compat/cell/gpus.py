"""Which worker has which GPU: xdist's hooks, in its controller.

A worker that takes another's place has a new number, the next that nobody had. Going by it, two workers would come to
share a GPU and another would stand idle, so what a worker had is given to the one after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

GPU = "gpu"
"""What a worker is told its GPU under."""


class Gpus:
    """Gives each worker a GPU of its own, as long as there is one."""

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = gpus
        self._held: dict[str, str] = {}
        """GPUs by worker, of workers that live."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """A worker is about to be started: it gets the first of the GPUs that the fewest others have."""
        held = Counter(self._held.values())
        node.workerinput[GPU] = self._held[node.gateway.id] = min(self._gpus, key=lambda gpu: held[gpu])

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended: its GPU is free."""
        self._held.pop(node.gateway.id, None)
