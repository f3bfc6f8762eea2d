"""What the committed baselines hold, as one grid of flows and stacks. Pure: no sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import assert_never

from packaging.version import Version

from finetune_compat.contract.catalog import CATALOG, Flow
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import REPORTED, Observation
from finetune_compat.contract.verdict import Kind, Outcome, Verdict
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.order import AXES, stack_order
from finetune_compat.results.run_files import Results, StackRow


class State(StrEnum):
    """What a user of the flow gets. The most serious comes first."""

    SILENT = "silently does not"
    """It ends without an error, and what it trained is not what was asked for."""
    CRASHES = "crashes"
    REFUSES = "refuses"
    """The library objects to a mistake with an error that names it."""
    TRAINS = "trains"
    UNKNOWN = "unknown"
    """Not measured, or this kind of machine cannot tell."""


def state_of(verdict: Verdict, seen: Observation | None) -> State:
    """The state of one cell. What only this kind of machine cannot do says nothing about a release."""
    match verdict.outcome:
        case Outcome.PASS:
            return State.REFUSES if verdict.refused else State.TRAINS
        case Outcome.INFRASTRUCTURE | Outcome.UNINSTALLABLE:
            return State.UNKNOWN
        case Outcome.XFAIL if verdict.kind is Kind.PLATFORM:
            return State.UNKNOWN
        case Outcome.XFAIL | Outcome.FAIL:
            if seen is not None and seen.error is not None:
                return State.CRASHES
            return State.SILENT if verdict.failing else State.TRAINS  # a listed deviation that did not occur
    assert_never(verdict.outcome)


def worst(states: Iterable[State]) -> State:
    """The most serious of `states`; UNKNOWN if there are none."""
    return min(states, key=tuple(State).index, default=State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Baseline:
    """A committed baseline."""

    name: str
    first_day: str
    last_day: str
    """Days of its first and last cell: UTC, ISO 8601; empty if its provenance is missing."""
    cells: int


@dataclass(frozen=True, slots=True)
class Sight:
    """One cell in one baseline."""

    baseline: Baseline
    verdict: Verdict
    seen: Observation | None
    state: State

    @property
    def day(self) -> str:
        """The day of the cell; empty if it left no observation."""
        return self.seen.started_at[:10] if self.seen else ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One variant of a flow on one stack, in all baselines that have it."""

    variant: str
    sights: tuple[Sight, ...]
    """At least one."""

    @property
    def state(self) -> State:
        """The most serious of the baselines'. The deep tier finds what the quick tier does not look for."""
        return worst(sight.state for sight in self.sights)

    @property
    def sight(self) -> Sight:
        """The first sight with that state."""
        return next(sight for sight in self.sights if sight.state is self.state)


@dataclass(frozen=True, slots=True)
class Column:
    """A stack."""

    stack: str
    axis: str
    """The package that its name varies; empty for a stack on no axis of `AXES`."""
    release: str
    """The version of that package, or the stack's name without its Python."""
    versions: Mapping[str, str]
    """Of the packages in `REPORTED`; empty if no cell left an observation."""
    reason: str
    """Why it did not run; empty if it ran."""
    uncovered: Uncovered | None = None
    """Count of its device-dependent branches; None if none was recorded for its lock."""

    @property
    def newness(self) -> tuple[Version, ...]:
        """A sort key: the versions of the packages of the axes."""
        return tuple(Version(self.versions.get(name, "0")) for name in AXES)

    @property
    def final(self) -> bool:
        """Whether its versions are known, and none is a pre-release."""
        return bool(self.versions) and not any(Version(version).is_prerelease for version in self.versions.values())


@dataclass(frozen=True, slots=True)
class Square:
    """All cells of one flow on one stack."""

    cells: tuple[Cell, ...]

    @property
    def counts(self) -> Mapping[State, int]:
        """The number of cells by state, the most serious first; states without cells are left out."""
        found = Counter(cell.state for cell in self.cells)
        return {state: found[state] for state in State if found[state]}

    @property
    def state(self) -> State:
        """The most serious state of a cell. Unknown ones count only if all are."""
        return worst(self.counts)

    @property
    def mixed(self) -> bool:
        """Whether some cells train and others do not."""
        return State.TRAINS in self.counts and self.state is not State.TRAINS


EMPTY = Square(())
"""A flow that was not run on a stack."""


@dataclass(frozen=True)
class Survey:
    """All committed baselines."""

    baselines: tuple[Baseline, ...]
    columns: tuple[Column, ...]
    """Stacks in the order of reports."""
    flows: tuple[Flow, ...]
    """Flows with cells, in catalog order."""
    squares: Mapping[tuple[str, str], Square]
    """By name of the flow and name of the stack; one that is missing was not run."""

    @property
    def day(self) -> str:
        """The day of the newest cell."""
        return max((baseline.last_day for baseline in self.baselines), default="")

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The devices that cells ran on."""
        return tuple(sorted({sight.seen.device.name for sight in self.sights if sight.seen}))

    @cached_property
    def emulates(self) -> bool:
        """Whether a cell presented an accelerator that was not there."""
        return any(sight.seen.device.emulates for sight in self.sights if sight.seen)

    @cached_property
    def sights(self) -> tuple[Sight, ...]:
        """Every cell of every baseline, in the order of flows and stacks."""
        return tuple(
            sight
            for flow in self.flows
            for column in self.columns
            for cell in self.square(flow.name, column.stack).cells
            for sight in cell.sights
        )

    def square(self, flow: str, stack: str) -> Square:
        """The cells of a flow on a stack."""
        return self.squares.get((flow, stack), EMPTY)

    @property
    def uncovered(self) -> Mapping[str, Uncovered]:
        """The device-dependent branches of the stacks in which some were recorded, by stack."""
        found = {column.stack: column.uncovered for column in self.columns}
        return {stack: counts for stack, counts in found.items() if counts is not None and counts.branches}

    def on_axis(self, axis: str) -> tuple[Column, ...]:
        """The stacks of an axis; with an empty name, those on no axis."""
        return tuple(column for column in self.columns if column.axis == axis)


def survey(results: Mapping[str, Results]) -> Survey:
    """The survey of judged baselines, by name."""
    squares: dict[tuple[str, str], dict[str, list[Sight]]] = {}
    baselines = {name: _baseline(name, found) for name, found in results.items()}
    for name, found in results.items():
        for verdict in found.verdicts:
            cell = parse_cell(verdict.cell)
            if cell.variant:
                seen = found.observations.get(verdict.cell)
                sight = Sight(baselines[name], verdict, seen, state_of(verdict, seen))
                variant = f"{cell.variant}@{cell.device}"
                squares.setdefault((cell.flow, cell.stack), {}).setdefault(variant, []).append(sight)
    flows = {flow for flow, _ in squares}
    return Survey(
        baselines=tuple(baselines.values()),
        columns=_columns(results.values()),
        flows=tuple(flow for flow in CATALOG if flow.name in flows),
        squares={
            place: Square(tuple(Cell(variant, tuple(sights)) for variant, sights in cells.items()))
            for place, cells in squares.items()
        },
    )


def _baseline(name: str, results: Results) -> Baseline:
    origin = results.origin
    days = (origin.first_cell[:10], origin.last_cell[:10]) if origin else ("", "")
    return Baseline(name, *days, cells=len(results.observations))


def _columns(results: Iterable[Results]) -> tuple[Column, ...]:
    rows: dict[str, StackRow] = {}
    versions: dict[str, Mapping[str, str]] = {}
    uncovered: dict[str, Uncovered] = {}
    for found in results:
        rows |= {row.name: row for row in found.rows if row.name not in rows or not row.reason}
        versions |= {seen.stack.name: seen.stack.resolved for seen in found.observations.values()}
        uncovered |= found.uncovered
    return tuple(
        _column(rows[name], versions.get(name, {}), uncovered.get(name)) for name in sorted(rows, key=stack_order)
    )


def _column(row: StackRow, versions: Mapping[str, str], uncovered: Uncovered | None) -> Column:
    place = stack_order(row.name)[0]
    axis = AXES[place] if place < len(AXES) else ""
    own = row.name.partition("-py")[0]
    release = versions.get(axis, own.removeprefix(axis)) if axis else own
    known = {name: versions[name] for name in REPORTED if name in versions}
    return Column(row.name, axis, release, known, row.reason, uncovered)
