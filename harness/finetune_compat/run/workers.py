"""How many workers each stack of a run has: cores that no other stack needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

WORTH_CELLS = 12
"""Cells for which another worker is worth its start. It imports the stack, which takes as long as a dozen cells."""


def workers_of(cells: Mapping[str, int], jobs: int, most: int) -> dict[str, int]:
    """Return the number of workers of each stack: one, but more for the stacks of a last round that leaves cores idle.

    With it three stacks on two cores end 17 % sooner, and one stack 44 % (2026-11-29, model with the durations of the
    committed baseline).

    Args:
        cells: how many each stack has to run, in the order in which the stacks start.
        jobs: stacks at once.
        most: workers at once, by memory or by request.
    """
    last = len(cells) % jobs
    each = max(1, min(-(-jobs // last), most // last)) if last else 1
    alone = dict.fromkeys(list(cells)[: len(cells) - last], 1)
    return {stack: alone.get(stack, min(each, 1 + number // WORTH_CELLS)) for stack, number in cells.items()}


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
