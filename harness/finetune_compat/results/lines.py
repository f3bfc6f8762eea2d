"""One cell as a row of a table: its verdict and the numbers of its observation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from finetune_compat.checks import Outcome, Result, Symptom, Verdict
from finetune_compat.checks.case import fall_of, null_of
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    Actor,
    Deep,
    Failure,
    Frame,
    LossPair,
    Observation,
    Stage,
    StepPair,
)
from finetune_compat.contract.verdict import Kind, Sign


class Mark(StrEnum):
    """The result of one cell as reports show it."""

    PASS = "pass"
    REFUSED = "refused"
    """Also a pass: the library refused a wrong flow with an error that states the fault."""
    XFAIL = "xfail"
    FAIL = "FAIL"
    INFRASTRUCTURE = "infrastructure"
    UNINSTALLABLE = "uninstallable"


class ResultKind(StrEnum):
    """The kind of result of a cell that is not a pass."""

    LISTED = "listed"
    UNLISTED = "unlisted"
    GONE = "gone"
    """A listed deviation that did not occur."""
    UNMEASURED = "unmeasured"
    """A deviation like a listed one, on a release for which it is not measured."""
    DIFFERENT = "different"
    """A deviation that differs from the listed one."""
    MACHINE = "machine"
    UNINSTALLABLE = "uninstallable"


@dataclass(frozen=True, slots=True)
class StageCount:
    """Trainable parameters at one stage, or the reason why there is no count."""

    stage: Stage
    trainable: int | None
    absence: Absence | None
    """The recorded reason why there is no count. Also None if the cell left no observation."""
    again: int | None
    """The count after the library called this step a second time, after the flow's own call; None if it did not."""


@dataclass(frozen=True, slots=True)
class DeepLine:
    """The measurements of the deep tier on one cell; None where a value could not be measured."""

    fall: float | None
    """How much eval loss fell."""
    null: float | None
    """How much eval loss moves when nothing can be learned."""
    accumulation: float | None
    """Largest relative difference between gradients with and without accumulation, over the classes of tensors."""
    checkpointing: float | None
    """Likewise with and without gradient checkpointing."""
    ignoring: tuple[str, ...] | None
    """Metrics of the evaluation that do not depend on the model."""
    duration_s: float


@dataclass(frozen=True, slots=True)
class CellLine:
    """One cell as a row of a table."""

    cell: str
    flow: str
    """Empty if the verdict is on a whole stack."""
    model: str
    """The first part of `variant`."""
    variant: str
    device: str
    outcome: Outcome
    mark: Mark
    finding: ResultKind | None
    """None for a pass."""
    reason: str
    symptom: Symptom
    counts: tuple[StageCount, ...]
    """One per stage, in the order of `CENSUS_STAGES`."""
    eval_before: float | None
    eval_after: float | None
    failing: tuple[tuple[str, str], ...]
    """Code and message of every failing check."""
    issues: tuple[str, ...]
    links: tuple[str, ...]
    freezes: tuple[tuple[Frame, ...], ...]
    """Call chains in library code that froze parameters which the flow trains."""
    error: Failure | None
    emulates: bool
    duration_s: float
    signs: tuple[Sign, ...] = ()
    """What the user sees if eval loss does not fall as it should."""
    deep: DeepLine | None = None
    """None if the deep tier was not run."""
    kind: Kind | None = None
    """The most serious kind of `issues`; None if none applies."""

    @property
    def stack(self) -> str:
        """The stack the cell ran on."""
        return parse_cell(self.cell).stack


@dataclass(frozen=True, slots=True)
class CountColumn:
    """One column of counts: a stage, or the library's second call of that step."""

    stage: Stage
    again: bool

    def of(self, line: CellLine) -> int | None:
        """The count of `line` in this column."""
        found = line.counts[_PLACES[self.stage]]
        return found.again if self.again else found.trainable


_PLACES = {stage: place for place, stage in enumerate(CENSUS_STAGES)}


def count_columns(lines: Iterable[CellLine]) -> tuple[CountColumn, ...]:
    """The columns for the counts of `lines`, in chronological order: columns of second calls precede the trainer's."""
    twice = {item.stage for line in lines for item in line.counts if item.again is not None}
    at = CENSUS_STAGES.index(Stage.TRAINER)
    again = [CountColumn(stage, True) for stage in CENSUS_STAGES if stage in twice]
    own = [CountColumn(stage, False) for stage in CENSUS_STAGES]
    return (*own[:at], *again, *own[at:])


def line_of(verdict: Verdict, seen: Observation | None) -> CellLine:
    cell = parse_cell(verdict.cell)
    training = seen.training if seen else None
    return CellLine(
        cell=verdict.cell,
        flow=cell.flow if cell.variant else "",
        model=cell.model,
        variant=cell.variant,
        device=cell.device or "" if cell.variant else "",
        outcome=verdict.outcome,
        mark=mark_of(verdict),
        finding=finding_of(verdict),
        reason=verdict.reason,
        symptom=verdict.symptom,
        counts=tuple(_count(seen, stage) for stage in CENSUS_STAGES) if seen else _UNCOUNTED,
        eval_before=training.eval_before if training else None,
        eval_after=training.eval_after if training else None,
        failing=tuple((item.code, item.message) for item in verdict.opinions if item.result is Result.FAIL),
        issues=verdict.issues,
        links=verdict.links,
        freezes=tuple(dict.fromkeys(_library_part(freeze.frames) for freeze in seen.freezes)) if seen else (),
        error=seen.error if seen else None,
        emulates=bool(seen and seen.device.emulates),
        duration_s=seen.duration_s if seen else 0.0,
        signs=verdict.signs,
        kind=verdict.kind,
        deep=_deep(seen, seen.deep) if seen and seen.deep else None,
    )


def _deep(seen: Observation, deep: Deep) -> DeepLine:
    training = seen.training
    null = null_of(training, deep) if training else None
    return DeepLine(
        fall=fall_of(LossPair(training.eval_before, training.eval_after)) if training else None,
        null=null.noise if null else None,
        accumulation=_largest(deep.accumulation),
        checkpointing=_largest(deep.checkpointing),
        ignoring=deep.evaluation.ignoring if deep.evaluation else None,
        duration_s=deep.duration_s,
    )


def _largest(pair: StepPair | None) -> float | None:
    return max((seen.relative for seen in pair.classes.values()), default=None) if pair else None


def mark_of(verdict: Verdict) -> Mark:
    """The mark of the cell in reports."""
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


def finding_of(verdict: Verdict) -> ResultKind | None:
    """The finding of the verdict; None for a pass."""
    match verdict.outcome:
        case Outcome.PASS:
            return None
        case Outcome.XFAIL:
            return ResultKind.LISTED
        case Outcome.FAIL if verdict.unmeasured:
            return ResultKind.UNMEASURED
        case Outcome.FAIL if not verdict.issues:
            return ResultKind.UNLISTED
        case Outcome.FAIL:
            return ResultKind.DIFFERENT if verdict.failing else ResultKind.GONE
        case Outcome.INFRASTRUCTURE:
            return ResultKind.MACHINE
        case Outcome.UNINSTALLABLE:
            return ResultKind.UNINSTALLABLE
    assert_never(verdict.outcome)


_UNCOUNTED = tuple(StageCount(stage, None, None, None) for stage in CENSUS_STAGES)


def _count(seen: Observation, stage: Stage) -> StageCount:
    own = library = None
    for census in seen.stages:
        if census.name is stage:
            if census.by is Actor.FLOW:
                own = census.trainable
            else:
                library = census.trainable
    if own is not None:
        return StageCount(stage, own, None, library)
    absence = None
    if library is None:
        absence = next((absent.reason for absent in seen.absent if absent.name is stage), None)
    return StageCount(stage, library, absence, None)


OWN_FILES = ("finetune_compat/", "harness/cell/")
"""Path prefixes of this project's flows: the current one, and that of observations from before the package was renamed.
"""


def _library_part(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The chain without the flow's own line, which differs between flows with the same cause."""
    return tuple(frame for frame in frames if not frame.file.startswith(OWN_FILES)) or frames
