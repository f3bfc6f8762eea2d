"""The answer as one HTML page; what it shares with that of a run is in `harness.report.html`."""

from __future__ import annotations

from collections.abc import Mapping

from harness.gate.decision import CellChange, CellSide, Gate
from harness.report import wording as said
from harness.report.exhibits import MOST, Cell, Exhibit, twins
from harness.report.gate import heat, wording
from harness.report.html import rendered

MOST_OF_A_CAUSE = 3
"""Cells of one cause that are shown in full."""


def render(gate: Gate) -> str:
    """The whole answer: decision, both sides, flows, causes with some of their cells in full, and what moved."""
    exhibits = _exhibits(gate)
    return rendered(
        "gate.html",
        gate=gate,
        gating=wording,
        rows=heat.rows(gate),
        causes=[(said.marker(place), cause) for place, cause in enumerate(gate.causes)],
        exhibits=exhibits,
        unshown={cause: len(cause.cells) - sum(name in exhibits for name in cause.cells) for cause in gate.causes},
        first_open=next((name for cause in gate.causes for name in cause.cells if name in exhibits), None),
    )


def _exhibits(gate: Gate) -> dict[str, Exhibit]:
    """Cells to show in full, by name: those of the worst causes first."""
    sides = {cell.after.verdict.cell: cell.after for cell in gate.cells if cell.after}
    names = [name for cause in gate.causes for name in cause.cells[:MOST_OF_A_CAUSE]][:MOST]
    found = {name: _exhibit(gate.cell(name), sides) for name in names}
    return {name: exhibit for name, exhibit in found.items() if exhibit}


def _exhibit(cell: CellChange, sides: Mapping[str, CellSide]) -> Exhibit | None:
    """A cell in full; None where neither side has it."""
    here = cell.after or cell.before
    if here is None:
        return None
    beside = [sides[name] for name in twins(here.verdict.cell, cell.flow, sides)]
    twin = next((side for side in beside if side.seen and side.seen.training), None)
    return Exhibit(
        here=Cell(here.line, here.seen),
        before=Cell(cell.before.line, cell.before.seen) if cell.before and cell.before is not here else None,
        twin=Cell(twin.line, twin.seen) if twin else None,
        again=cell.again,
    )
