"""Expected durations: of cells, from their earlier durations, and of a run of these cells."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune_compat.contract.cell_id import parse_cell

if TYPE_CHECKING:
    from finetune_compat.store.store import Past

START_S = 9.0
"""Seconds from the start of a stack's nox session to its first cell, on one core. Importing the stack takes half."""

CELL_S = 0.6
"""Seconds of a cell without any earlier duration: the mean of the committed baseline (6,599 cells in 3,705 s)."""

OUTLIER = 4.0
"""Durations above this multiple of the usual duration are cut to it. The first cell of a process also imports the
stack, and compiles it in a new environment. `START_S` counts the import.
"""


@dataclass(frozen=True, slots=True)
class Took:
    """What cells took when they were last measured. Wall-clock time depends on what else the machine did."""

    wall: Mapping[str, float]
    """Wall-clock seconds by cell id."""
    cpu: Mapping[str, float]
    """CPU seconds, of some or all of these cells."""

    def then(self, newer: Took) -> Took:
        """These, with `newer` in place of what it has. A cell that was measured again without CPU seconds has none."""
        cpu = {cell: seconds for cell, seconds in self.cpu.items() if cell not in newer.wall}
        return Took({**self.wall, **newer.wall}, {**cpu, **newer.cpu})

    @property
    def share(self) -> float:
        """CPU seconds for each wall-clock second: the median of the cells that have both; 1 without such a cell."""
        shares = [seconds / self.wall[cell] for cell, seconds in self.cpu.items() if self.wall.get(cell)]
        return statistics.median(shares) if shares else 1.0

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of each cell on one core: its CPU seconds, else its share of its wall-clock seconds."""
        share = self.share
        return {cell: self.cpu.get(cell, wall * share) for cell, wall in self.wall.items()}


def took(history: Mapping[str, Past]) -> Took:
    """What the cells of the store's history took."""
    return Took(
        {cell: past.duration_s for cell, past in history.items()},
        {cell: past.cpu_s for cell, past in history.items() if past.cpu_s is not None},
    )


def expected(cells: Iterable[str], seconds: Mapping[str, float]) -> dict[str, float]:
    """Expected seconds of each cell: its own (`Took.seconds`); else the median of its flow and variant on all stacks;
    else the median of all known cells; else `CELL_S`.
    """
    alike: dict[str, list[float]] = defaultdict(list)
    for cell, took_s in seconds.items():
        alike[parse_cell(cell).name].append(took_s)
    medians = {kind: statistics.median(found) for kind, found in alike.items()}
    usual = statistics.median(seconds.values()) if seconds else CELL_S
    alone = {cell: medians.get(parse_cell(cell).name, usual) for cell in cells}
    return {cell: min(seconds.get(cell, like), OUTLIER * max(like, usual)) for cell, like in alone.items()}


def loads(seconds: Mapping[str, float], begun: frozenset[str] = frozenset()) -> dict[str, float]:
    """Seconds of each stack that has cells among these, on one core. A stack that has not `begun` starts first."""
    found: dict[str, float] = {}
    for cell, needs in seconds.items():
        stack = parse_cell(cell).stack
        found[stack] = found.get(stack, 0.0 if stack in begun else START_S) + needs
    return found


def longest_first(load: Mapping[str, float]) -> tuple[str, ...]:
    """Stacks in the order to start them. A long stack at the end would leave the other cores idle."""
    return tuple(sorted(load, key=lambda stack: (-load[stack], stack)))


def cells_longest_first(seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Cells in the order in which several workers take them, for the same reason as `longest_first`. The order does
    not affect model creation: each worker creates a model once.
    """
    return tuple(sorted(seconds, key=lambda cell: -seconds[cell]))


def makespan(load: Collection[float], jobs: int) -> float:
    """Seconds until all is done, where the longest is started first and the next as soon as one is through."""
    ends = [0.0] * jobs
    for seconds in sorted(load, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def least(load: Collection[float], longest: float, cores: int) -> float:
    """Seconds that no run on `cores` can be below: each stack and each core needs a start before its first cell.

    Args:
        load: seconds of each stack, with its start.
        longest: seconds of the longest cell.
        cores: workers at once.
    """
    return max((sum(load) + START_S * max(0, cores - len(load))) / cores, START_S + longest) if load else 0.0


def pace(actual: Sequence[float], predicted: Sequence[float]) -> float:
    """Actual seconds divided by predicted seconds; 1 until `START_S` predicted seconds are done."""
    actual_s, predicted_s = sum(actual), sum(predicted)
    return actual_s / predicted_s if predicted_s >= START_S and actual_s else 1.0


def order_of(seconds: Mapping[str, float], *, by_importance: bool) -> tuple[str, ...]:
    """The stacks of these cells in the order to start them: the longest first. With a budget (`by_importance`), in the
    order of their cells, which the budget has sorted by importance.
    """
    return (
        tuple(dict.fromkeys(parse_cell(cell).stack for cell in seconds))
        if by_importance
        else longest_first(loads(seconds))
    )
