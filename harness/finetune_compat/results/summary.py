"""A judged run as numbers, in one frozen value for all renderers. Pure: counts and facts, no sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_compat.checks import CHECKS, Result, Verdict
from finetune_compat.checks.case import NOT_RECORDED
from finetune_compat.checks.drift import Definition, Drift, definitions, drifts
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.records import Observation
from finetune_compat.contract.verdict import Kind
from finetune_compat.results.age import Age
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.causes import Group, groups_of
from finetune_compat.results.lines import CellLine, Mark, line_of
from finetune_compat.results.order import same_axis, stack_order
from finetune_compat.results.run_files import Origin, Results, RowState, StackRow


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of cells by result."""

    passed: int = 0
    refused: int = 0
    """Passes whose flow was refused with a reason; not part of `passed`."""
    bugs: int = 0
    """Xfails with a bug of a release among their issues."""
    traps: int = 0
    """Other xfails with a trap among their issues."""
    limits: int = 0
    """Xfails that this kind of machine causes."""
    failed: int = 0
    infrastructure: int = 0
    lost: int = 0
    """Stacks whose session ended before its cells started; not part of `cells`."""
    uninstallable: int = 0
    left_out: int = 0
    """Selected cells that did not run, because the time budget was used up; not part of `cells`."""

    @property
    def xfailed(self) -> int:
        """All xfails."""
        return self.bugs + self.traps + self.limits

    @property
    def worst(self) -> tuple[Mark, Kind | None]:
        """The most urgent mark among the cells, and the most serious kind of an xfail."""
        ranked = (
            (self.failed, Mark.FAIL, None),
            (self.bugs, Mark.XFAIL, Kind.UPSTREAM),
            (self.by_the_machine, Mark.INFRASTRUCTURE, None),
            (self.traps, Mark.XFAIL, Kind.TRAP),
            (self.limits, Mark.XFAIL, Kind.PLATFORM),
        )
        return next(((mark, kind) for number, mark, kind in ranked if number), (Mark.PASS, None))

    @property
    def cells(self) -> int:
        """All cells that ran."""
        return self.passed + self.refused + self.xfailed + self.failed + self.infrastructure

    @property
    def by_the_machine(self) -> int:
        """Infrastructure failures: of cells and of whole sessions."""
        return self.infrastructure + self.lost


@dataclass(frozen=True, slots=True)
class Depth:
    """How much of the deep tier was run."""

    measured: int
    """Number of cells."""
    seconds: float
    """Total duration."""


@dataclass(frozen=True, slots=True)
class Heat:
    """All cells of one flow on one stack."""

    tally: Tally
    listed: tuple[tuple[int, int], ...]
    """For each listed group: its index among the run's groups, and how many of these cells are in it."""


@dataclass(frozen=True, slots=True)
class StackSummary:
    """One stack's part of a run."""

    name: str
    state: RowState
    reason: str
    """The reason why it did not run; empty if it ran."""
    versions: Mapping[str, str]
    """Installed version by distribution; empty if no cell left an observation."""
    python: str
    torch_wanted: str
    base_torch: bool
    device: str
    lines: tuple[CellLine, ...]
    tally: Tally
    groups: tuple[Group, ...]
    depth: Depth
    exit_code: ExitCode
    duration_s: float
    uncovered: Uncovered | None = None
    """Count of its device-dependent branches; None if none was recorded for its lock."""

    @property
    def has_cells(self) -> bool:
        """Whether there are verdicts on cells, and not only one on the whole stack."""
        return any(line.flow for line in self.lines)


@dataclass(frozen=True, slots=True)
class Lack:
    """Fields of today's records that the same cells of a run lack, because an older harness wrote them."""

    fields: tuple[str, ...]
    """Such as `Training.grad_norm_logged`."""
    flows: tuple[str, ...]
    """Flows of these cells, in catalog order."""
    cells: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run."""

    run: Path
    stacks: tuple[StackSummary, ...]
    flows: tuple[str, ...]
    """Flows with selected cells, in catalog order."""
    heat: tuple[tuple[Heat, ...], ...]
    """Stacks x flows, in the orders of `stacks` and `flows`."""
    tally: Tally
    groups: tuple[Group, ...]
    drifts: tuple[Drift, ...]
    """Differences in what neighbouring stacks compute, whether or not training works."""
    definitions: tuple[Definition, ...]
    """Stacks whose `eval_loss` is not the mean negative log-likelihood of its label tokens."""
    depth: Depth
    exit_code: ExitCode
    left_out: tuple[str, ...] = ()
    """Selected cells that did not run, because the time budget was used up."""
    origin: Origin | None = None
    """Only for a committed baseline: when it was measured, and with which sources."""
    unrecorded: tuple[tuple[str, int], ...] = ()
    """Code of each check whose data an older harness did not record, and the number of such cells."""
    lacks: tuple[Lack, ...] = ()
    """Fields that today's cells record and cells of this run lack."""
    age: Age | None = None
    """Only for a committed baseline, and only if it was asked: what changed since it was measured."""

    def stack(self, name: str) -> StackSummary:
        """The summary of the stack called `name`.

        Raises:
            KeyError: the run has no such stack.
        """
        for stack in self.stacks:
            if stack.name == name:
                return stack
        raise KeyError(name)

    def exit_code_of(self, name: str) -> ExitCode:
        """The exit code of a session that ran only the stack called `name`.

        Raises:
            KeyError: the run has no such stack.
        """
        return self.stack(name).exit_code


def summarize(results: Results, ledger: Ledger) -> Summary:
    """The summary of a run. `ledger` provides the titles and remedies of listed issues."""
    lines = _lines_by_stack(results)
    rows = sorted(results.rows, key=lambda row: stack_order(row.name))
    order = [row.name for row in rows]
    stacks = tuple(
        replace(
            _stack(row, tuple(lines[row.name]), results.observations, ledger),
            uncovered=results.uncovered.get(row.name),
        )
        for row in rows
    )
    every = tuple(line for stack in stacks for line in stack.lines)
    seen_flows = {line.flow for line in every}
    flows = tuple(flow.name for flow in CATALOG if flow.name in seen_flows)
    tally = replace(tally_of(every), left_out=len(results.left_out))
    groups = groups_of(every, ledger, order)
    places = {cell: i for i, group in enumerate(groups) if group.mark is Mark.XFAIL for cell in group.cells}
    return Summary(
        run=results.run,
        stacks=stacks,
        flows=flows,
        heat=tuple(_heat(stack.lines, flows, places) for stack in stacks),
        tally=tally,
        groups=groups,
        drifts=drifts(order, results.observations.values(), same_axis),
        definitions=definitions(order, results.observations.values(), same_axis),
        depth=depth_of(every),
        exit_code=exit_code_of(tally),
        left_out=results.left_out,
        origin=results.origin,
        unrecorded=unrecorded(results.verdicts),
        lacks=lacks_of(results.observations),
    )


def lacks_of(observations: Mapping[str, Observation]) -> tuple[Lack, ...]:
    """The fields that observations lack, grouped by the cells that lack them; those that most cells lack come first."""
    cells: dict[str, list[str]] = {}
    for cell, seen in observations.items():
        for name in seen.lacks:
            cells.setdefault(name, []).append(cell)
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(cells):
        alike.setdefault(tuple(cells[name]), []).append(name)
    groups = sorted(alike.items(), key=lambda item: (-len(item[0]), item[1]))
    return tuple(Lack(tuple(names), _flows_of(found, observations), len(found)) for found, names in groups)


def _flows_of(cells: Iterable[str], observations: Mapping[str, Observation]) -> tuple[str, ...]:
    flows = {observations[cell].flow for cell in cells}
    return tuple(flow.name for flow in CATALOG if flow.name in flows)


def unrecorded(verdicts: Iterable[Verdict]) -> tuple[tuple[str, int], ...]:
    """Checks whose data an older harness did not record, in order: the code, and the number of such cells."""
    found = Counter(
        opinion.code
        for verdict in verdicts
        for opinion in verdict.opinions
        if opinion.result is Result.NOT_APPLICABLE and opinion.message.startswith(NOT_RECORDED)
    )
    return tuple((check.code, found[check.code]) for check in CHECKS if found[check.code])


def tally_of(lines: Iterable[CellLine]) -> Tally:
    """The number of `lines` by mark."""
    lines = tuple(lines)
    marks = Counter(line.mark if line.flow or line.mark is not Mark.INFRASTRUCTURE else None for line in lines)
    kinds = Counter(line.kind for line in lines if line.mark is Mark.XFAIL)
    return Tally(
        passed=marks[Mark.PASS],
        refused=marks[Mark.REFUSED],
        bugs=kinds[Kind.UPSTREAM],
        traps=kinds[Kind.TRAP],
        limits=kinds[Kind.PLATFORM],
        failed=marks[Mark.FAIL],
        infrastructure=marks[Mark.INFRASTRUCTURE],
        lost=marks[None],
        uninstallable=marks[Mark.UNINSTALLABLE],
    )


def depth_of(lines: Iterable[CellLine]) -> Depth:
    """How much of the deep tier was run for `lines`."""
    deep = [line.deep for line in lines if line.deep]
    return Depth(len(deep), sum(measured.duration_s for measured in deep))


def exit_code_of(tally: Tally) -> ExitCode:
    """The exit code of the command. A run without any cell that was judged is never healthy."""
    if tally.failed:
        return ExitCode.UNHEALTHY
    return ExitCode.COULD_NOT_TELL if tally.by_the_machine or not tally.cells else ExitCode.HEALTHY


def _heat(lines: Iterable[CellLine], flows: Iterable[str], places: Mapping[str, int]) -> tuple[Heat, ...]:
    """The heat of one stack, one per flow. `places` has the index of the listed group by cell id."""
    by_flow: dict[str, list[CellLine]] = {flow: [] for flow in flows}
    for line in lines:
        if line.flow in by_flow:
            by_flow[line.flow].append(line)
    return tuple(
        Heat(
            tally_of(found), tuple(sorted(Counter(places[line.cell] for line in found if line.cell in places).items()))
        )
        for found in by_flow.values()
    )


def _lines_by_stack(results: Results) -> dict[str, list[CellLine]]:
    lines: dict[str, list[CellLine]] = {row.name: [] for row in results.rows}
    for verdict in results.verdicts:
        stack = parse_cell(verdict.cell).stack
        # A verdict on a stack without a row would be missing in every count. A KeyError is better than a green report.
        lines[stack].append(line_of(verdict, results.observations.get(verdict.cell)))
    return lines


def _stack(
    row: StackRow, lines: tuple[CellLine, ...], observed: Mapping[str, Observation], ledger: Ledger
) -> StackSummary:
    seen = next((observed[line.cell] for line in lines if line.cell in observed), None)
    tally = tally_of(lines)
    return StackSummary(
        name=row.name,
        state=row.state,
        reason=row.reason,
        versions=seen.stack.resolved if seen else {},
        python=seen.stack.python if seen else "",
        torch_wanted=seen.stack.torch_wanted if seen else "",
        base_torch=bool(seen and seen.stack.base_torch),
        device=seen.device.name if seen else "",
        lines=lines,
        tally=tally,
        groups=groups_of(lines, ledger, [row.name]),
        depth=depth_of(lines),
        exit_code=exit_code_of(tally),
        duration_s=sum(line.duration_s for line in lines),
    )
