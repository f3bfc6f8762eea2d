"""Cells shown in full, each with two cells to compare it with: the same cell elsewhere, and a correct flow. Pure.

A page shows few cells, because cells of one cause look alike. The run's files have every cell.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from finetune_compat.contract.catalog import CATALOG, Flow
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import CellLine, Mark
from finetune_compat.results.order import same_axis
from finetune_compat.results.summary import Summary
from finetune_compat.stacks.matrix import run_command

MOST = 60
"""Maximum number of full cells on a page. The raw observation of each is about 25 kB."""

MOST_OF_A_FAILURE = 3
"""Maximum number of full cells for a failing cause. A listed cause has one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The row and the observation of a cell."""

    line: CellLine
    seen: Observation


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A cell to show in full."""

    here: Cell
    before: Cell | None
    """The same flow and variant on the nearest release that passes it, or on the baseline of a gate."""
    twin: Cell | None
    """A correct flow of the same kind that trained on the same stack, variant and device."""
    again: str
    """The command that runs this cell again."""


def exhibits_of(
    summary: Summary, observations: Mapping[str, Observation], asked: Callable[[str], bool] | None = None
) -> tuple[Exhibit, ...]:
    """Cells of a run to show in full: some of every cause, failures first; or the selected cells, at most `MOST`.

    Args:
        summary: the run.
        observations: observations of the run by cell.
        asked: whether a cell id is selected; None: some cells of every cause.
    """
    lines = {line.cell: line for stack in summary.stacks for line in stack.lines}
    cells = {cell: Cell(line, observations[cell]) for cell, line in lines.items() if cell in observations}
    wanted = [cell for cell in cells if asked(cell)] if asked else [*_chosen(summary.groups, cells)]
    order = [stack.name for stack in summary.stacks]
    return tuple(_exhibit(cells[cell], cells, order) for cell in wanted[:MOST])


def _chosen(groups: Sequence[Group], cells: Mapping[str, Cell]) -> Iterable[str]:
    for group in reversed(groups):
        seen = [cell for cell in group.cells if cell in cells]
        yield from seen[: MOST_OF_A_FAILURE if group.mark is Mark.FAIL else 1]


def _exhibit(here: Cell, cells: Mapping[str, Cell], order: Sequence[str]) -> Exhibit:
    beside = (cells[cell] for cell in twins(here.line.cell, here.line.flow, cells))
    return Exhibit(
        here=here,
        before=_nearest_pass(here.line, cells, order),
        twin=next((cell for cell in beside if learned(cell)), None),
        again=again(here.line, here.seen),
    )


def twins(cell: str, flow: str, cells: Mapping[str, object]) -> tuple[str, ...]:
    """Ids of cells of correct flows with the same subject, stack, variant and device, the most similar first."""
    own = next((known for known in CATALOG if known.name == flow), None)
    if own is None:
        return ()
    here = parse_cell(cell)
    alike = sorted(
        (other for other in CATALOG if other.correct and other is not own and other.subject is own.subject),
        key=lambda other: _project(other) != _project(own),
    )
    return tuple(name for other in alike if (name := str(replace(here, flow=other.name))) in cells)


def _project(flow: Flow) -> str:
    """The first word of a flow's name. Flows with the same first word use the same data."""
    return flow.name.partition("-")[0]


def learned(cell: Cell) -> bool:
    """Whether the cell passes and trained."""
    return cell.line.mark is Mark.PASS and cell.line.eval_after is not None


def _nearest_pass(line: CellLine, cells: Mapping[str, Cell], order: Sequence[str]) -> Cell | None:
    """The same cell on the nearest stack of the axis on which it passes. Earlier stacks come first."""
    at, here = order.index(line.stack), parse_cell(line.cell)
    near = [name for name in (*reversed(order[:at]), *order[at + 1 :]) if same_axis(name, line.stack)]
    found = (cells.get(str(replace(here, stack=name))) for name in near)
    return next((cell for cell in found if cell and learned(cell)), None)


def again(line: CellLine, seen: Observation | None = None) -> str:
    """The command that runs a cell again, or a whole stack without cells; empty for a stack outside the matrix."""
    options = [] if not line.flow else ["-k", shlex.quote(f"{line.flow}[{line.variant}]")]
    options += ["--device", line.device] if line.device == DeviceKind.CUDA else []
    options += ["--base-torch"] if seen and seen.stack.base_torch else []
    return run_command(line.stack, options) or ""
