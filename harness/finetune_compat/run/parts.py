"""Split cells into parts of similar duration, for several machines or for the cores of a cluster.

A stack may be in several parts. Each part starts each of its stacks once, which takes `START_S`. Machines that do not
know of each other get one part each (`split`); the cores of a cluster take one part after another (`by_stack`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run.estimate import START_S, cells_longest_first, least, loads, longest_first

SHORTEST_S = 2 * START_S
"""Seconds below which no part is split further: most of it would be starts."""

HALVINGS = 12
"""Steps of the search for the least deadline. After 12 steps its error is below 0.03 % of the interval."""


ROUNDING_S = 1e-6
"""Seconds by which sums of the same durations in another order may differ."""

NO_RESULTS = "its machine left no results: it never started, or was lost"
"""Reason of a stack that no part brought back."""


@dataclass(frozen=True, slots=True)
class Part:
    """Cells that run one after another on one core."""

    cells: tuple[str, ...]
    """Ids; the cells of a stack follow each other."""
    seconds: float
    """Expected duration, with the starts of the stacks."""

    @property
    def stacks(self) -> tuple[str, ...]:
        """The stacks of the cells."""
        return tuple(dict.fromkeys(parse_cell(cell).stack for cell in self.cells))


def split(seconds: Mapping[str, float], number: int) -> tuple[Part, ...]:
    """Split cells into at most `number` parts, none of them empty, so that the longest part is as short as possible.

    Args:
        seconds: expected duration of each cell by id.
        number: maximum number of parts, at least 1.

    Returns:
        The parts, the longest first. The longest is never longer than that of `whole_stacks`.
    """
    if not seconds:
        return ()
    best = whole_stacks(seconds, number)
    bound = least(loads(seconds).values(), max(seconds.values()), number)
    low, high = max(bound, SHORTEST_S), _longest(best)
    for _ in range(HALVINGS):
        deadline = (low + high) / 2
        found = _filled(seconds, number, deadline)
        if found is None:
            low = deadline
        else:
            high = deadline
            best = min(best, found, key=_longest)
    return _in_order(best, seconds)


def by_stack(seconds: Mapping[str, float], cores: int) -> tuple[Part, ...]:
    """Split cells into parts of one stack each, for cores that take the next part when they are idle.

    The parts are the stacks of `split` for that many cores. So a stack starts no more often than there, and a core that
    is slower than expected gets fewer parts.

    Args:
        seconds: expected duration of each cell by id.
        cores: number of cores, at least 1.

    Returns:
        The parts, the longest first.
    """
    found = [
        Part(tuple(cells), START_S + sum(cells.values()))
        for share in split(seconds, cores)
        for _, cells in _by_stack({cell: seconds[cell] for cell in share.cells}, share.stacks)
    ]
    return _longest_first(found)


def whole_stacks(seconds: Mapping[str, float], number: int) -> list[Part]:
    """Parts of whole stacks: the longest stack first, each to the part with the least work."""
    load = loads(seconds)
    bins = [_Bin() for _ in range(min(number, len(load)))]
    free = [(0.0, place) for place in range(len(bins))]
    for stack, cells in _by_stack(seconds, longest_first(load)):
        _, place = heapq.heappop(free)
        bins[place].add(stack, cells)
        heapq.heappush(free, (bins[place].seconds, place))
    return [found.part() for found in bins]


@dataclass(slots=True)
class _Bin:
    """A part that is being filled."""

    cells: dict[str, float] = field(default_factory=dict)
    stacks: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        return sum(self.cells.values()) + START_S * len(self.stacks)

    def add(self, stack: str, cells: Mapping[str, float]) -> None:
        self.cells |= cells
        self.stacks.add(stack)

    def fill(self, stack: str, cells: Mapping[str, float], deadline: float) -> dict[str, float]:
        """Add the cells that fit until `deadline`, and return the others."""
        taken, rest = _taken(cells, deadline - self.seconds - START_S)
        if taken:
            self.add(stack, taken)
        return rest

    def part(self) -> Part:
        return Part(tuple(self.cells), self.seconds)


def _filled(seconds: Mapping[str, float], number: int, deadline: float) -> list[Part] | None:
    """At most `number` parts that end by `deadline`; None if filling them in this order needs more.

    A stack that is too long for a part fills whole parts. What remains of the stacks then fills part after part, the
    most first: where a part is full, the rest of its last stack goes to the next.
    """
    full: list[_Bin] = []
    rests: list[tuple[str, dict[str, float]]] = []
    for stack, cells in _by_stack(seconds, longest_first(loads(seconds))):
        rest = cells
        while START_S + sum(rest.values()) > deadline:
            full.append(_Bin())
            rest = full[-1].fill(stack, rest, deadline)
            if not full[-1].cells or len(full) > number:
                return None
        rests.append((stack, rest))
    bins = [_Bin()]
    for stack, cells in sorted(rests, key=lambda each: -sum(each[1].values())):
        rest = cells and bins[-1].fill(stack, cells, deadline)
        if rest:  # it fits into an empty part
            bins.append(_Bin())
            bins[-1].fill(stack, rest, deadline)
    found = [each.part() for each in (*full, *bins) if each.cells]
    return found if len(found) <= number else None


def _taken(cells: Mapping[str, float], room: float) -> tuple[dict[str, float], dict[str, float]]:
    """The cells that fit into `room` seconds if the longest is tried first, and the others."""
    taken: dict[str, float] = {}
    for cell in cells_longest_first(cells):
        if cells[cell] <= room + ROUNDING_S:
            taken[cell] = cells[cell]
            room -= cells[cell]
    return taken, {cell: needs for cell, needs in cells.items() if cell not in taken}


def _by_stack(seconds: Mapping[str, float], order: Iterable[str]) -> Iterator[tuple[str, dict[str, float]]]:
    found: dict[str, dict[str, float]] = {}
    for cell, needs in seconds.items():
        found.setdefault(parse_cell(cell).stack, {})[cell] = needs
    for stack in order:
        yield stack, found[stack]


def _longest(parts: Iterable[Part]) -> float:
    return max(part.seconds for part in parts)


def _in_order(parts: Iterable[Part], seconds: Mapping[str, float]) -> tuple[Part, ...]:
    """The parts, the longest first, with the cells of each in the order of `seconds`, stack by stack."""
    place = {cell: number for number, cell in enumerate(seconds)}
    first: dict[str, int] = {}
    for cell, number in place.items():
        first.setdefault(parse_cell(cell).stack, number)
    ordered = (
        Part(tuple(sorted(part.cells, key=lambda cell: (first[parse_cell(cell).stack], place[cell]))), part.seconds)
        for part in parts
    )
    return _longest_first(ordered)


def _longest_first(parts: Iterable[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (-part.seconds, part.cells)))


def merged_row(stack: str, rows: Sequence[StackRow], cells: Sequence[str]) -> StackRow:
    """The row of a stack whose cells ran in several parts. A cell without a line is then lost, and never green.

    Args:
        stack: its name.
        rows: its rows, one for each part that brought one.
        cells: ids of all its cells, those of parts that brought nothing included.
    """
    if any(row.state is RowState.RAN for row in rows):
        return StackRow(stack, RowState.RAN, "", tuple(cells))
    failed = [row for row in rows if row.state is RowState.INFRASTRUCTURE]
    if failed or not rows:
        reasons = dict.fromkeys(row.reason for row in failed)
        return StackRow(stack, RowState.INFRASTRUCTURE, "; ".join(reasons) or NO_RESULTS, tuple(cells))
    return StackRow(stack, RowState.UNINSTALLABLE, rows[0].reason, ())
