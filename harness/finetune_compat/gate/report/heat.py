"""Counts of how the cells of each flow ended on both sides, and of their other differences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from finetune_compat.checks.comparison import Health, health
from finetune_compat.gate.decision import CellChange, CellSide, Difference, FlowChange, Gate


@dataclass(frozen=True, slots=True)
class Marks:
    """The cells of one flow on one side."""

    healthy: int
    """Cells that train, or that are refused with a reason."""
    deviating: tuple[tuple[int, int], ...]
    """Pairs of a cause's index in the gate's causes and the number of these cells that deviate for that cause."""
    unknown: int
    absent: int


@dataclass(frozen=True, slots=True)
class Row:
    """One flow on both sides."""

    flow: FlowChange
    before: Marks
    after: Marks


@dataclass(frozen=True, slots=True)
class Differing:
    """One difference, and all cells that have it, healthy cells included."""

    what: Difference
    cells: tuple[str, ...]
    """Names, as in `CellChange.name`."""
    flows: tuple[str, ...]


def differing(gate: Gate) -> tuple[Differing, ...]:
    """Each distinct difference with its cells, the most frequent first."""
    found: dict[Difference, list[CellChange]] = {}
    for cell in gate.cells:
        for item in cell.differences:
            found.setdefault(item, []).append(cell)
    grouped = (
        Differing(item, tuple(cell.name for cell in cells), tuple(dict.fromkeys(cell.flow for cell in cells)))
        for item, cells in found.items()
    )
    return tuple(sorted(grouped, key=lambda item: -len(item.cells)))


def rows(gate: Gate) -> tuple[Row, ...]:
    """The table of flows: one row per flow."""
    places = {name: place for place, cause in enumerate(gate.causes) for name in cause.cells}
    return tuple(_row(flow, [cell for cell in gate.cells if cell.flow == flow.flow], places) for flow in gate.flows)


def _row(flow: FlowChange, cells: list[CellChange], places: Mapping[str, int]) -> Row:
    before = _marks(((cell.name, cell.before) for cell in cells), places)
    return Row(flow, before, _marks(((cell.name, cell.after) for cell in cells), places))


def _marks(cells: Iterable[tuple[str, CellSide | None]], places: Mapping[str, int]) -> Marks:
    found = [(name, health(side.verdict if side else None)) for name, side in cells]
    number = Counter(what for _, what in found)
    # Every deviating cell has a cause: only cells that are healthy on both sides have none.
    deviating = Counter(places[name] for name, what in found if what is Health.DEVIATES)
    return Marks(
        healthy=number[Health.TRAINS] + number[Health.REFUSED],
        deviating=tuple(sorted(deviating.items())),
        unknown=number[Health.UNKNOWN],
        absent=number[Health.ABSENT],
    )
