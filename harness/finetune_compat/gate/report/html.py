"""The answer as one HTML page. The parts shared with the page of a run are in `finetune_compat.report.html`."""

from __future__ import annotations

from collections.abc import Mapping

from finetune_compat.checks.comparison import Change
from finetune_compat.gate.decide import RANK
from finetune_compat.gate.decision import CellChange, CellSide, Gate
from finetune_compat.gate.report import heat, wording
from finetune_compat.report import wording as said
from finetune_compat.report.exhibits import MOST, Cell, Exhibit, learned, twins
from finetune_compat.report.html import rendered

MOST_OF_A_CAUSE = 3
"""Maximum number of cells of one cause to show in full."""


def render(gate: Gate) -> str:
    """The whole answer: decision, both sides, flows, causes with some of their cells in full, and changed packages."""
    exhibits = _exhibits(gate)
    rows = sorted(heat.rows(gate), key=lambda row: -RANK.index(row.flow.effect))  # stable: SFT is first in the catalog
    return rendered(
        "gate.html",
        gate=gate,
        gating=wording,
        rows=[row for row in rows if _changed(row)],
        same=[row.flow.flow for row in rows if not _changed(row)],
        defaults=_by_class(gate),
        differing=[wording.differing(item, gate) for item in heat.differing(gate)],
        causes=[(said.marker(place), cause) for place, cause in enumerate(gate.causes)],
        exhibits=exhibits,
        unshown=[sum(name not in exhibits for name in cause.cells) for cause in gate.causes],
        first_open=next((name for cause in gate.causes for name in cause.cells if name in exhibits), None),
    )


def _changed(row: heat.Row) -> bool:
    return {*row.flow.changes} != {Change.UNCHANGED}


def _by_class(gate: Gate) -> list[tuple[str, list[tuple[str, ...]]]]:
    """The changed defaults by class: first the classes whose new defaults the script takes."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for item in gate.defaults:
        found.setdefault(item.config, []).append(wording.default(item)[1:])
    mine = {item.config for item in gate.taken}
    return sorted(found.items(), key=lambda item: item[0] not in mine)


def _exhibits(gate: Gate) -> dict[str, Exhibit]:
    """Cells to show in full, by name, those of the worst causes first. Cells without an observation are left out."""
    sides = {cell.after.verdict.cell: _cell(cell.after) for cell in gate.cells if cell.after}
    there = {cell: side for cell, side in sides.items() if side}
    names = [name for cause in gate.causes for name in cause.cells[:MOST_OF_A_CAUSE]][:MOST]
    found = {name: _exhibit(gate.cell(name), there) for name in names}
    return {name: exhibit for name, exhibit in found.items() if exhibit}


def _cell(side: CellSide | None) -> Cell | None:
    return Cell(side.line, side.seen) if side and side.seen else None


def _exhibit(cell: CellChange, sides: Mapping[str, Cell]) -> Exhibit | None:
    here, before = _cell(cell.after), _cell(cell.before)
    if here is None:
        return None
    beside = (sides[name] for name in twins(here.line.cell, cell.flow, sides))
    return Exhibit(
        here=here,
        before=before,
        twin=next((side for side in beside if learned(side)), None),
        again=cell.again,
    )
