"""The comparison of the census of a model on two stacks. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from finetune_compat.census.taken import Taken, Trainer
from finetune_compat.census.verdicts import TargetFinding
from finetune_compat.contract.census import StageCount, StageTable, Weight
from finetune_compat.contract.records import Area, Stage

_INDICES = re.compile(r"\[[\d,-]+\]")
"""The layer indices in a path (example: `[0-27]`)."""


@dataclass(frozen=True, slots=True, order=True)
class Move:
    """A part of the model with a new path (example: `visual` became `model.visual`)."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Reach:
    """Number of modules that a pattern matches before and after, by area."""

    pattern: str
    before: Mapping[Area, int]
    after: Mapping[Area, int]


class Figure(StrEnum):
    """The kind of a count."""

    TRAINABLE = "trainable"
    STORED = "stored"
    LOGICAL = "logical"
    ADAPTERS = "adapters"


@dataclass(frozen=True, slots=True)
class Shift:
    """A changed count. `area` is None for the whole model."""

    stage: Stage
    figure: Figure
    area: Area | None
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All changes between two censuses of the same model and request."""

    moves: tuple[Move, ...]
    gone: tuple[Weight, ...]
    new: tuple[Weight, ...]
    reaches: tuple[Reach, ...]
    shifts: tuple[Shift, ...]
    trainers: tuple[tuple[Trainer, Trainer], ...]
    gone_findings: tuple[TargetFinding, ...]
    new_findings: tuple[TargetFinding, ...]
    lasting_findings: tuple[TargetFinding, ...]
    """Findings on both stacks, with the values of the second stack."""

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return not any(getattr(self, name) for name in self.__slots__ if name != "lasting_findings")


def compared(before: Taken, after: Taken) -> Comparison:
    """The changes from `before` to `after`."""
    pairs, gone, new = _paired(before.table, after.table)
    moves = {_move(_head(old), _head(now)) for old, now in pairs if _head(old) != _head(now)}
    return Comparison(
        moves=tuple(sorted(moves)),
        gone=gone,
        new=new,
        reaches=tuple(
            Reach(pattern, reach(before.table, pattern), reach(after.table, pattern))
            for pattern in before.lora.patterns
            if reach(before.table, pattern) != reach(after.table, pattern)
        ),
        shifts=_shifts(before.table, after.table),
        trainers=tuple(
            (old, now)
            for old in before.trainers
            for now in after.trainers
            if old.way is now.way and (old.trainable, old.issue) != (now.trainable, now.issue)
        ),
        gone_findings=_without(before.findings, after.findings),
        new_findings=_without(after.findings, before.findings),
        lasting_findings=_without(after.findings, _without(after.findings, before.findings)),
    )


def reach(table: StageTable, pattern: str) -> dict[Area, int]:
    """Modules (or parameters, for `target_parameters`) that a pattern matches, by area."""
    found: Counter[Area] = Counter()
    for weight in table.weights:
        if pattern in weight.patterns:
            found[weight.area] += weight.count
    return dict(found)


def _without(some: tuple[TargetFinding, ...], others: tuple[TargetFinding, ...]) -> tuple[TargetFinding, ...]:
    known = {(other.code, other.patterns) for other in others}
    return tuple(finding for finding in some if (finding.code, finding.patterns) not in known)


# -------------------------------------------------------------------------------------------------------------- weights


def _paired(
    before: StageTable, after: StageTable
) -> tuple[list[tuple[Weight, Weight]], tuple[Weight, ...], tuple[Weight, ...]]:
    """Weights in both tables (paths may differ), weights only in `before`, and weights only in `after`."""
    left, right = _by_identity(before), _by_identity(after)
    both = [(left[key], right[key]) for key in left if key in right]
    gone = tuple(weight for key, weight in left.items() if key not in right)
    return both, gone, tuple(weight for key, weight in right.items() if key not in left)


def _by_identity(table: StageTable) -> dict[tuple[object, ...], Weight]:
    return {(w.area, w.kind, w.shape, w.count, _tail(w), *_INDICES.findall(w.path)): w for w in table.weights}


def _tail(weight: Weight) -> str:
    """The path after the last index list; the last component if the path has no index list."""
    return _INDICES.split(weight.path)[-1].removeprefix(".") if "[" in weight.path else weight.leaf


def _head(weight: Weight) -> str:
    return weight.path.removesuffix(_tail(weight)).rstrip(".")


def _move(before: str, after: str) -> Move:
    """The move without the common ending of both paths: `visual.blocks` moved because `visual` moved."""
    old, now = before.split("."), after.split(".")
    while len(old) > 1 and len(now) > 1 and old[-1] == now[-1]:
        del old[-1], now[-1]
    return Move(".".join(old), ".".join(now))


# --------------------------------------------------------------------------------------------------------------- counts


def _shifts(before: StageTable, after: StageTable) -> tuple[Shift, ...]:
    found: list[Shift] = []
    for stage in (Stage.LOAD, Stage.PREPARE, Stage.PEFT):
        old, now = _figures(before.count(stage)), _figures(after.count(stage))
        found.extend(
            Shift(stage, *what, old.get(what, 0), now.get(what, 0))
            for what in dict.fromkeys((*old, *now))
            if old.get(what, 0) != now.get(what, 0)
        )
    return tuple(found)


def _figures(count: StageCount | None) -> dict[tuple[Figure, Area | None], int]:
    if count is None:
        return {}
    return {
        (Figure.TRAINABLE, None): count.trainable,
        **{(Figure.TRAINABLE, area): number.trainable for area, number in count.by_area.items()},
        **{(Figure.ADAPTERS, area): number.total for area, number in count.adapters_on.items()},
        (Figure.STORED, None): count.total,
        (Figure.LOGICAL, None): count.total_logical,
    }
