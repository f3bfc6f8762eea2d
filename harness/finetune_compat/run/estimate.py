"""What cells will take, by what they took, and how long a run with them lasts."""

from __future__ import annotations

import heapq
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from finetune_compat.contract.cell_id import parse_cell

START_S = 9.0
"""Seconds from nox's start of a stack to its first cell, on one core: half of them the import of the stack."""

CELL_S = 0.6
"""Seconds of a cell nothing is known of: the mean of the committed baseline (6,599 cells in 3,705 s)."""


OUTLIER = 4.0
"""How many times the median of its like a cell may take and be believed. The first of a process imports the stack,
which `START_S` counts, and in a new environment compiles it.
"""


def expected(cells: Iterable[str], took: Mapping[str, float]) -> dict[str, float]:
    """Seconds each cell will take: what it took; else the median of the same flow and variant on all stacks; else of
    all cells that are known; else `CELL_S`.
    """
    alike: dict[str, list[float]] = defaultdict(list)
    for cell, seconds in took.items():
        alike[parse_cell(cell).name].append(seconds)
    medians = {kind: statistics.median(found) for kind, found in alike.items()}
    usual = statistics.median(took.values()) if took else CELL_S
    alone = {cell: medians.get(parse_cell(cell).name, usual) for cell in cells}
    return {cell: min(took.get(cell, like), OUTLIER * max(like, usual)) for cell, like in alone.items()}


def loads(
    seconds: Mapping[str, float], begun: frozenset[str] = frozenset(), workers: Mapping[str, int] = MappingProxyType({})
) -> dict[str, float]:
    """Seconds of each stack that has cells among these, on its `workers` (default: one). A stack that has not `begun`
    starts first.
    """
    found: dict[str, float] = {}
    for cell, needs in seconds.items():
        stack = parse_cell(cell).stack
        found[stack] = found.get(stack, 0.0 if stack in begun else START_S) + needs / workers.get(stack, 1)
    return found


def longest_first(load: Mapping[str, float]) -> tuple[str, ...]:
    """Stacks in the order to be started in: with a long one left for the end the other cores would stand still."""
    return tuple(sorted(load, key=lambda stack: (-load[stack], stack)))


def cells_longest_first(seconds: Mapping[str, float]) -> tuple[str, ...]:
    """Cells in the order in which several workers are to take them, for the same reason. Each worker makes a model
    once, in whatever order the cells of it come.
    """
    return tuple(sorted(seconds, key=lambda cell: -seconds[cell]))


def makespan(load: Collection[float], jobs: int) -> float:
    """Seconds until all is done, where the longest is started first and the next as soon as one is through."""
    ends = [0.0] * jobs
    for seconds in sorted(load, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def pace(really: Sequence[float], foretold: Sequence[float]) -> float:
    """How much longer cells take here and now than they were expected to; 1 until some seconds of them were seen."""
    seen, told = sum(really), sum(foretold)
    return seen / told if told >= START_S and seen else 1.0
