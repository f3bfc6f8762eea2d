"""A run of `compat run` on a machine with any number of cores, calculated from the durations of its cells.

The decisions are those of the engine: which stack starts, which gets another worker, and which cell comes next. What is
left out: environments that are made first, and the quarter of a second between two looks at the cells.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.run.estimate import START_S, cells_longest_first, order_of
from finetune_compat.run.workers import JOIN_S, shared_out


def simulated(seconds: Mapping[str, float], cores: int) -> float:
    """Seconds until the last of the cells ends on `cores`.

    Args:
        seconds: duration of each cell, by id.
        cores: workers at once.
    """
    return _Simulation(seconds, cores).run()


@dataclass(slots=True)
class _Stack:
    """A stack of which cells are left."""

    pending: deque[float] = field(default_factory=deque)
    """Seconds of the cells that no worker has, the longest first."""
    left: float = 0.0
    """Seconds of the cells that have not ended."""
    cells: int = 0
    """Number of these cells."""
    granted: int = 1
    workers: int = 0


@dataclass(slots=True)
class _Worker:
    stack: str
    runs: float = 0.0
    """Seconds of the cell that ends at the worker's next event; 0 at the worker's start."""
    then: float = 0.0
    """Seconds of the cell that it runs next: xdist gives a worker two."""


class _Simulation:
    def __init__(self, seconds: Mapping[str, float], cores: int) -> None:
        self._cores, self._now = cores, 0.0
        self._stacks: dict[str, _Stack] = {}
        self._waiting = deque(order_of(seconds, by_importance=False))
        self._events: list[tuple[float, int, _Worker]] = []
        for cell in cells_longest_first(seconds):
            stack = self._stacks.setdefault(parse_cell(cell).stack, _Stack())
            stack.pending.append(seconds[cell])
            stack.left += seconds[cell]
            stack.cells += 1
        self._serial = 0

    def run(self) -> float:
        if len(self._waiting) <= self._cores:
            self._share()
        for _ in range(min(self._cores, len(self._waiting))):
            self._start()
        while self._events:
            self._now, _, worker = heapq.heappop(self._events)
            self._goes_on(worker)
        return self._now

    def _start(self) -> None:
        name = self._waiting.popleft()
        for _ in range(self._stacks[name].granted):
            self._add(name, START_S)

    def _add(self, name: str, after: float) -> None:
        self._stacks[name].workers += 1
        self._at(self._now + after, _Worker(name))

    def _at(self, time: float, worker: _Worker) -> None:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, worker))

    def _goes_on(self, worker: _Worker) -> None:
        stack = self._stacks[worker.stack]
        if worker.runs:
            stack.left -= worker.runs
            stack.cells -= 1
        worker.runs = worker.then or (stack.pending.popleft() if stack.pending else 0.0)
        worker.then = stack.pending.popleft() if worker.runs and stack.pending else 0.0
        if worker.runs:
            self._at(self._now + worker.runs, worker)
            return
        stack.workers -= 1
        if not stack.workers:  # none is left, also none that still starts
            del self._stacks[worker.stack]
            if self._waiting:
                self._start()
        if len(self._stacks) <= self._cores:
            self._share()

    def _share(self) -> None:
        open_ = {name: stack for name, stack in self._stacks.items() if stack.cells}
        left = {name: stack.left for name, stack in open_.items()}
        now = {name: min(stack.granted, stack.cells) for name, stack in open_.items()}
        for name, number in shared_out(left, now, self._cores).items():
            stack = self._stacks[name]
            joining = max(0, number - stack.granted) if stack.workers and len(stack.pending) > 1 else 0
            stack.granted = max(stack.granted, number)
            for _ in range(joining):
                self._add(name, JOIN_S)
