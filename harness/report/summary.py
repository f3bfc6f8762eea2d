"""A judged run as numbers: what every renderer shows, in one frozen value. Pure; counts and facts, no sentences.

Cells that are red for one reason form one `Group`: twenty red cells are then one thing to look at, which they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from packaging.version import Version

from harness.catalog import CATALOG
from harness.checks import CHECKS, Outcome, Result, Symptom, Verdict
from harness.errors import ExitCode
from harness.ledger import Ledger
from harness.records import (
    CENSUS_STAGES,
    Absence,
    Actor,
    Failure,
    Frame,
    Observation,
    Stage,
)
from harness.results import Results, RowState, StackRow

AXES = ("trl", "transformers", "peft")
"""The order in which stacks are shown; a stack of any other name comes last."""

_STACK = re.compile(r"(?P<axis>[a-z]+)(?P<version>[0-9]+(\.[0-9]+)*)(-py3(?P<python>[0-9]+))?")


class Mark(StrEnum):
    """What a reader is shown of one cell."""

    PASS = "pass"
    REFUSED = "refused"
    """A pass too: the library answered a wrong flow with an error that says what is wrong."""
    XFAIL = "xfail"
    FAIL = "FAIL"
    INFRASTRUCTURE = "infrastructure"
    UNINSTALLABLE = "uninstallable"


class Finding(StrEnum):
    """What kind of news a cell that is no plain pass brings."""

    LISTED = "listed"
    UNLISTED = "unlisted"
    GONE = "gone"
    """A listed deviation that did not appear."""
    DIFFERENT = "different"
    """A deviation where one is listed, but another one."""
    MACHINE = "machine"
    UNINSTALLABLE = "uninstallable"


@dataclass(frozen=True, slots=True)
class StageCount:
    """Trainable parameters at one stage, or why nobody counted them."""

    stage: Stage
    trainable: int | None
    absence: Absence | None
    """Why there is no count, as recorded. None as well where the cell left no observation at all."""
    again: int | None
    """The count after a second, later call of this step that the library made on its own."""


@dataclass(frozen=True, slots=True)
class CellLine:
    """One cell as a row of a table."""

    cell: str
    flow: str
    """Empty where the verdict is on a whole stack."""
    variant: str
    device: str
    outcome: Outcome
    mark: Mark
    finding: Finding | None
    """None for a pass."""
    reason: str
    symptom: Symptom
    counts: tuple[StageCount, ...]
    eval_before: float | None
    eval_after: float | None
    failing: tuple[tuple[str, str], ...]
    """Code and message of every failing check."""
    issues: tuple[str, ...]
    links: tuple[str, ...]
    freezes: tuple[tuple[Frame, ...], ...]
    """Call chains inside the libraries that froze what the flow trains."""
    error: Failure | None
    emulates: bool
    duration_s: float


@dataclass(frozen=True, slots=True)
class Tally:
    """How many cells ended how."""

    passed: int = 0
    refused: int = 0
    """Passes whose flow was refused with a reason; not part of `passed`."""
    xfailed: int = 0
    failed: int = 0
    infrastructure: int = 0
    uninstallable: int = 0

    @property
    def cells(self) -> int:
        """Everything counted but stacks that could not be installed."""
        return self.passed + self.refused + self.xfailed + self.failed + self.infrastructure


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring stacks of one axis, first and last included."""

    first: str
    last: str
    stacks: int


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that are not green for one and the same reason."""

    finding: Finding
    issues: tuple[str, ...]
    titles: tuple[str, ...]
    """Titles of the listed issues, else of the failing checks."""
    links: tuple[str, ...]
    advice: tuple[str, ...]
    """What the ledger, else the failing checks, say to do."""
    failing: tuple[tuple[str, str], ...]
    """Code and message, as the group's first cell has them."""
    freezes: tuple[tuple[Frame, ...], ...]
    """Every distinct chain."""
    errors: tuple[Failure, ...]
    """One error for each distinct type, message and raising line."""
    reason: str
    """The judge's sentence on the first cell."""
    cells: tuple[str, ...]
    flows: tuple[str, ...]
    spans: tuple[Span, ...]

    @property
    def mark(self) -> Mark:
        """The mark that all of its cells carry."""
        match self.finding:
            case Finding.LISTED:
                return Mark.XFAIL
            case Finding.UNLISTED | Finding.GONE | Finding.DIFFERENT:
                return Mark.FAIL
            case Finding.MACHINE:
                return Mark.INFRASTRUCTURE
            case Finding.UNINSTALLABLE:
                return Mark.UNINSTALLABLE
        assert_never(self.finding)


@dataclass(frozen=True, slots=True)
class StackSummary:
    """One stack's part of a run."""

    name: str
    state: RowState
    reason: str
    """Why it did not run; empty where it did."""
    versions: Mapping[str, str]
    """Installed version by distribution; empty where no cell got as far as saying so."""
    python: str
    torch_wanted: str
    base_torch: bool
    device: str
    lines: tuple[CellLine, ...]
    tally: Tally
    groups: tuple[Group, ...]
    exit_code: ExitCode
    duration_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole run."""

    run: Path
    stacks: tuple[StackSummary, ...]
    flows: tuple[str, ...]
    """Flows of which some cell was selected, in catalog order."""
    heat: tuple[tuple[Tally, ...], ...]
    """Stacks x flows, in the orders of `stacks` and `flows`."""
    tally: Tally
    groups: tuple[Group, ...]
    exit_code: ExitCode

    def stack(self, name: str) -> StackSummary:
        """The part of the stack called `name`.

        Raises:
            KeyError: the run has no such stack.
        """
        for stack in self.stacks:
            if stack.name == name:
                return stack
        raise KeyError(name)

    def exit_code_of(self, name: str) -> ExitCode:
        """What a session that ran only the stack called `name` ends with.

        Raises:
            KeyError: the run has no such stack.
        """
        return self.stack(name).exit_code


def summarize(results: Results, ledger: Ledger) -> Summary:
    """The run's numbers. `ledger` gives each listed issue its title and its remedy."""
    lines = _lines_by_stack(results)
    rows = sorted(results.rows, key=lambda row: stack_order(row.name))
    order = [row.name for row in rows]
    stacks = tuple(_stack(row, lines.get(row.name, ()), results.observations, ledger) for row in rows)
    every = tuple(line for stack in stacks for line in stack.lines)
    seen_flows = {line.flow for line in every}
    flows = tuple(flow.name for flow in CATALOG if flow.name in seen_flows)
    tally = tally_of(every)
    return Summary(
        run=results.run,
        stacks=stacks,
        flows=flows,
        heat=tuple(tuple(tally_of(_of_flow(stack.lines, flow)) for flow in flows) for stack in stacks),
        tally=tally,
        groups=groups_of(every, ledger, order),
        exit_code=exit_code_of(tally),
    )


def stack_order(name: str) -> tuple[int, Version, bool, Version, int, str]:
    """Sort key of a stack's name: axis, then version as numbers, then Python.

    A minor follows its single patches, because a minor means its newest patch.
    """
    found = _STACK.match(name)
    if found is None:
        return len(AXES), Version("0"), False, Version("0"), 0, name
    version = Version(found["version"])
    axis = AXES.index(found["axis"]) if found["axis"] in AXES else len(AXES)
    minor = Version(f"{version.major}.{version.minor}")
    return axis, minor, version.release == minor.release, version, int(found["python"] or 0), name


def tally_of(lines: Iterable[CellLine]) -> Tally:
    """How many of `lines` carry each mark."""
    marks = Counter(line.mark for line in lines)
    return Tally(
        passed=marks[Mark.PASS],
        refused=marks[Mark.REFUSED],
        xfailed=marks[Mark.XFAIL],
        failed=marks[Mark.FAIL],
        infrastructure=marks[Mark.INFRASTRUCTURE],
        uninstallable=marks[Mark.UNINSTALLABLE],
    )


def exit_code_of(tally: Tally) -> ExitCode:
    """What the command ends with. A run in which no cell says anything about the versions is never healthy."""
    if tally.failed:
        return ExitCode.UNHEALTHY
    return ExitCode.COULD_NOT_TELL if tally.infrastructure or not tally.cells else ExitCode.HEALTHY


def _of_flow(lines: Iterable[CellLine], flow: str) -> Iterable[CellLine]:
    return (line for line in lines if line.flow == flow)


def _lines_by_stack(results: Results) -> dict[str, tuple[CellLine, ...]]:
    lines: dict[str, tuple[CellLine, ...]] = {row.name: () for row in results.rows}
    for verdict in results.verdicts:
        stack = verdict.cell.partition("/")[0]
        # A verdict on a stack without a row would vanish from every count; KeyError is better than a green report.
        lines[stack] += (_line(verdict, results.observations.get(verdict.cell)),)
    return lines


@dataclass(frozen=True, slots=True)
class CountColumn:
    """One column of counts: a stage, or the library's second call of that step."""

    stage: Stage
    again: bool

    def of(self, line: CellLine) -> int | None:
        """The count of `line` in this column."""
        found = next(item for item in line.counts if item.stage is self.stage)
        return found.again if self.again else found.trainable


def count_columns(lines: Iterable[CellLine]) -> tuple[CountColumn, ...]:
    """The columns it takes to show the counts of `lines`, in order of events: second calls come from the trainer."""
    twice = {item.stage for line in lines for item in line.counts if item.again is not None}
    at = CENSUS_STAGES.index(Stage.TRAINER)
    again = [CountColumn(stage, True) for stage in CENSUS_STAGES if stage in twice]
    own = [CountColumn(stage, False) for stage in CENSUS_STAGES]
    return (*own[:at], *again, *own[at:])


# ----------------------------------------------------------------------------------------------------------- one stack


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
        exit_code=exit_code_of(tally),
        duration_s=sum(line.duration_s for line in lines),
    )


# ------------------------------------------------------------------------------------------------------------ one cell

_CELL = re.compile(r"[^/]+/(?P<flow>[^\[]+)\[(?P<variant>[^\]]+)\]@(?P<device>.+)")


def _line(verdict: Verdict, seen: Observation | None) -> CellLine:
    place = _CELL.fullmatch(verdict.cell)
    training = seen.training if seen else None
    return CellLine(
        cell=verdict.cell,
        flow=place["flow"] if place else "",
        variant=place["variant"] if place else "",
        device=place["device"] if place else "",
        outcome=verdict.outcome,
        mark=mark_of(verdict),
        finding=finding_of(verdict),
        reason=verdict.reason,
        symptom=verdict.symptom,
        counts=tuple(_count(seen, stage) for stage in CENSUS_STAGES),
        eval_before=training.eval_before if training else None,
        eval_after=training.eval_after if training else None,
        failing=tuple((said.code, said.message) for said in verdict.opinions if said.result is Result.FAIL),
        issues=verdict.issues,
        links=verdict.links,
        freezes=tuple(dict.fromkeys(_library_part(freeze.frames) for freeze in seen.freezes)) if seen else (),
        error=seen.error if seen else None,
        emulates=bool(seen and seen.device.emulates),
        duration_s=seen.duration_s if seen else 0.0,
    )


def mark_of(verdict: Verdict) -> Mark:
    """What a reader is shown of the cell."""
    match verdict.outcome:
        case Outcome.PASS:
            return Mark.REFUSED if verdict.refused else Mark.PASS
        case Outcome.XFAIL:
            return Mark.XFAIL
        case Outcome.FAIL:
            return Mark.FAIL
        case Outcome.INFRASTRUCTURE:
            return Mark.INFRASTRUCTURE
        case Outcome.UNINSTALLABLE:
            return Mark.UNINSTALLABLE
    assert_never(verdict.outcome)


def finding_of(verdict: Verdict) -> Finding | None:
    """What kind of news the verdict is; None for a pass."""
    match verdict.outcome:
        case Outcome.PASS:
            return None
        case Outcome.XFAIL:
            return Finding.LISTED
        case Outcome.FAIL if not verdict.issues:
            return Finding.UNLISTED
        case Outcome.FAIL:
            return Finding.DIFFERENT if verdict.failing else Finding.GONE
        case Outcome.INFRASTRUCTURE:
            return Finding.MACHINE
        case Outcome.UNINSTALLABLE:
            return Finding.UNINSTALLABLE
    assert_never(verdict.outcome)


def _count(seen: Observation | None, stage: Stage) -> StageCount:
    census = seen.census(stage) if seen else None
    if seen is None or census is None:
        reasons = (absent.reason for absent in seen.absent if absent.name is stage) if seen else ()
        return StageCount(stage, None, next(iter(reasons), None), None)
    library = [other.trainable for other in seen.stages if other.name is stage and other.by is Actor.LIBRARY]
    again = library[-1] if library and census.by is Actor.FLOW else None
    return StageCount(stage, census.trainable, None, again)


def _library_part(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The chain without the flow's own line, which differs from flow to flow where the cause does not."""
    return tuple(frame for frame in frames if not frame.file.startswith("harness/")) or frames


# --------------------------------------------------------------------------------------------------------- root causes


def groups_of(lines: Iterable[CellLine], ledger: Ledger, order: Sequence[str]) -> tuple[Group, ...]:
    """The lines that are no passes, by root cause; what is listed comes first and what fails last, next to the totals.

    Args:
        lines: cells in the order they are shown.
        ledger: for titles and remedies of listed issues.
        order: names of all stacks of the run as they are shown, to tell which are neighbours.
    """
    found: dict[tuple[Finding, tuple[str, ...]], list[CellLine]] = {}
    for line in lines:
        if line.finding is not None:
            found.setdefault((line.finding, _cause(line, line.finding)), []).append(line)
    groups = [_group(finding, same, ledger, order) for (finding, _), same in found.items()]
    return tuple(sorted(groups, key=lambda group: _urgency(group.finding)))


def _urgency(finding: Finding) -> int:
    match finding:
        case Finding.LISTED:
            return 0
        case Finding.UNINSTALLABLE:
            return 1
        case Finding.MACHINE:
            return 2
        case Finding.UNLISTED | Finding.DIFFERENT | Finding.GONE:
            return 3
    assert_never(finding)


def _cause(line: CellLine, finding: Finding) -> tuple[str, ...]:
    """Equal for cells of one finding that have one reason. Line numbers are left out: they move between releases."""
    match finding:
        case Finding.LISTED | Finding.GONE:
            return line.issues
        case Finding.UNLISTED | Finding.DIFFERENT:
            return (*line.issues, *(code for code, _ in line.failing), *_culprit(line))
        case Finding.MACHINE:
            return (_without_numbers(line.reason),)
        case Finding.UNINSTALLABLE:
            return (line.reason,)  # the numbers in it are versions, and those are the reason
    assert_never(finding)


def _culprit(line: CellLine) -> tuple[str, ...]:
    """The code that did it: what raised where the error is itself a finding, else what froze, else nothing is known."""
    if line.error is not None and (not line.freezes or "F001" in dict(line.failing)):
        place = line.error.frames[-1:]
        return (line.error.type, _without_numbers(line.error.message), *(_place(frame) for frame in place))
    return tuple(sorted({_place(chain[-1]) for chain in line.freezes if chain}))


def _place(frame: Frame) -> str:
    return f"{frame.file} {frame.function} {frame.code}"


def _without_numbers(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "#", text)


def _group(finding: Finding, lines: Sequence[CellLine], ledger: Ledger, order: Sequence[str]) -> Group:
    first = lines[0]
    entries = [issue for issue in ledger.issues if issue.id in first.issues]
    checks = [check for check in CHECKS if check.code in dict(first.failing)]
    return Group(
        finding=finding,
        issues=first.issues,
        titles=tuple(item.title for item in entries or checks),
        links=first.links,
        advice=tuple(issue.remedy for issue in entries) or tuple(check.advice for check in checks),
        failing=first.failing,
        freezes=tuple(dict.fromkeys(chain for line in lines for chain in line.freezes)),
        errors=_distinct([line.error for line in lines if line.error is not None]),
        reason=first.reason,
        cells=tuple(line.cell for line in lines),
        flows=tuple(dict.fromkeys(line.flow for line in lines if line.flow)),
        spans=_spans({line.cell.partition("/")[0] for line in lines}, order),
    )


def _distinct(errors: Iterable[Failure]) -> tuple[Failure, ...]:
    first: dict[object, Failure] = {}
    for error in errors:
        first.setdefault((error.type, error.message, error.frames[-1:]), error)
    return tuple(first.values())


def _spans(stacks: set[str], order: Sequence[str]) -> tuple[Span, ...]:
    """`stacks` as runs of neighbours in `order`; a run never leaves its axis."""
    runs: list[list[str]] = []
    for before, name in zip((None, *order), order, strict=False):
        if name in stacks and runs and runs[-1][-1] == before and _same_axis(before, name):
            runs[-1].append(name)
        elif name in stacks:
            runs.append([name])
    return tuple(Span(run[0], run[-1], len(run)) for run in runs)


def _same_axis(left: str, right: str) -> bool:
    return stack_order(left)[0] == stack_order(right)[0]
