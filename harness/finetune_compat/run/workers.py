"""How many workers each stack has: cores that no stack waits for run cells of the stacks that have most left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from finetune_compat.run.estimate import START_S

JOIN_S = START_S / 2
"""Seconds until a worker that joins a running stack runs a cell, if it imports the stack: 4.7 s for trl1.16 on an idle
core. A forked one takes 0.1 s.
"""

WORTH_CELLS = 12
"""Cells for which another worker is worth its start. It imports the stack, which takes as long as a dozen cells."""


def shared_out(left: Mapping[str, float], workers: Mapping[str, int], cores: int) -> dict[str, int]:
    """Return how many workers each stack may have. One idle core after another goes to the stack that would end last.

    Args:
        left: seconds of the cells that are left, by stack that runs or may start at once.
        workers: how many each of these stacks has.
        cores: workers of all stacks together.
    """
    found = dict(workers)
    for _ in range(cores - sum(found.values()) if left else 0):
        last = max(left, key=lambda stack: left[stack] / found[stack])
        if left[last] / found[last] <= JOIN_S:
            break
        found[last] += 1
    return found


def workers_alone(cells: int, cores: int) -> int:
    """The number of workers of a stack with `cells` to run, if it has all cores."""
    return max(1, min(cores, 1 + cells // WORTH_CELLS))


class Pool:
    """The cores that several stacks of one process share: together they start no more workers than there are cores."""

    def __init__(self, cores: int, stacks: Iterable[str]) -> None:
        self._cores = cores
        self._unknown = set(stacks)
        self._needs: dict[str, int] = {}
        self._changed = threading.Condition()

    def take(self, stack: str, cells: int) -> int:
        """The number of workers for the `cells` that `stack` has to run.

        Waits up to `PATIENCE_S` for the numbers of the other stacks, because one with nothing to run leaves its cores.
        """
        with self._changed:
            self._needs[stack] = cells
            self._unknown.discard(stack)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._unknown, PATIENCE_S if cells else 0)
            others = len(self._unknown) + sum(1 for name, need in self._needs.items() if need and name != stack)
        return max(1, self._cores // (1 + others))

    def leave(self, stack: str) -> None:
        """Count `stack` as one with nothing to run."""
        with self._changed:
            self._unknown.discard(stack)
            self._needs.pop(stack, None)
            self._changed.notify_all()


PATIENCE_S = 2.0
"""Seconds to wait for other stacks. Reading the store takes one. Making an environment takes longer."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What stacks that one process runs in parallel have in common."""

    pool: Pool
    say: Callable[[str], None]
    """Called with each line for the user."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Ends the cells of all stacks when it is set."""
