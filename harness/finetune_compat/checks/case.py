"""The subject of the checks of a cell: one observation, and what its user is entitled to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

from finetune_compat.checks.engine import NOT_DEEP, NotApplicable
from finetune_compat.checks.objectives import NEXT_TOKEN, RULES, Rules
from finetune_compat.checks.rules import DECIMALS, eval_loss_flat
from finetune_compat.contract import closed_forms
from finetune_compat.contract.catalog import Expect, Flow
from finetune_compat.contract.records import (
    CENSUS_STAGES,
    Absence,
    Census,
    Deep,
    Failure,
    Freeze,
    LossPair,
    ModelSizes,
    Observation,
    Stage,
    Training,
)
from finetune_compat.contract.verdict import Sign, Symptom

LUCK = 0.02
"""Share of the eval loss by which random steps may lower it by chance: nearly twice the most in the sweeps."""

NULL_MARGIN = 3.0
"""A fall of eval loss must exceed this many times the measured noise, because few random walks are measured."""

TREND = 3.0
"""A train loss has a trend if its regression line falls by this many times the scatter around the line. Without a
trend, the fall of a line through ten values has a standard deviation of one scatter: sqrt(12 * 9 / (10 * 11)).
"""

FEWEST_LOSSES = 4
"""Minimum number of train losses for which the scatter around a line is meaningful."""


NOT_RECORDED = "recorded before "
"""Prefix of the reason why a check does not apply to an observation of an older harness, which lacks its data."""


@dataclass(frozen=True)
class Case:
    """An observation, and the catalog's row for its flow. Properties cache what several checks use."""

    seen: Observation
    flow: Flow

    def census(self, stage: Stage) -> Census | None:
        """The same as `Observation.census`, cached."""
        return self._censuses[stage]

    @cached_property
    def _censuses(self) -> Mapping[Stage, Census | None]:
        return {stage: self.seen.census(stage) for stage in CENSUS_STAGES}

    @property
    def training(self) -> Training:
        """The record of the training.

        Raises:
            NotApplicable: training did not finish.
        """
        if self.seen.training is None:
            raise NotApplicable("training did not finish")
        return self.seen.training

    @property
    def deep(self) -> Deep:
        """The measurements of the deep tier.

        Raises:
            NotApplicable: the deep tier was not run for this cell.
        """
        if self.seen.deep is None:
            raise NotApplicable(NOT_DEEP)
        return self.seen.deep

    @cached_property
    def sizes(self) -> ModelSizes:
        """Expected parameter counts: in closed form for a tiny model, as recorded for real weights.

        Raises:
            NotApplicable: neither is known.
        """
        if self.seen.model is not None:
            own = (self.seen.model, self.seen.variant.precision, self.seen.lora)
            return closed_forms.sizes(*own, self.flow.head, self.flow.extra, self.flow.method)
        if self.seen.sizes is None:
            raise NotApplicable("the sizes of the model are not known")
        return self.seen.sizes

    def expected(self, expect: Expect) -> frozenset[int]:
        """The counts of stored trainable elements that satisfy `expect`."""
        match expect:
            case Expect.NONE:
                return frozenset({0})
            case Expect.ADAPTER:
                return frozenset({self.adapter})
            case Expect.EVERYTHING:
                return frozenset({self.sizes.stored})
            case Expect.UNQUANTIZED:
                return frozenset(self.sizes.at_load)
        assert_never(expect)

    @property
    def rules(self) -> Rules:
        """The label and loss rules of the flow's objective."""
        return RULES[self.flow.objective]

    @cached_property
    def symptom(self) -> Symptom:
        """What the user of the flow sees."""
        return symptom(self.seen, self.rules)

    @cached_property
    def signs(self) -> tuple[Sign, ...]:
        """What the user sees if the flow does not learn; empty if it learns."""
        return signs(self.seen, self.rules)

    @cached_property
    def adapter(self) -> int:
        """Adapter parameters; 0 for a flow without adapters."""
        return sum(self.sizes.adapters_on.values())

    def absence(self, stage: Stage) -> Absence | None:
        """Why `stage` has no census; None if no reason is recorded."""
        return next((absent.reason for absent in self.seen.absent if absent.name is stage), None)

    @property
    def refused(self) -> bool:
        """Whether the trainer refused this flow with a ValueError whose message contains `Flow.refusal`."""
        error = self.seen.error
        return (
            error is not None
            and self.flow.refusal is not None
            and error.stage is Stage.TRAINER
            and error.type == "ValueError"
            and self.flow.refusal in error.message
        )


def symptom(seen: Observation, rules: Rules = NEXT_TOKEN) -> Symptom:
    """What the user of the flow sees: an error, or what `symptom_of_losses` finds."""
    if seen.error is not None:
        return Symptom.ERROR
    return Symptom.UNKNOWN if seen.training is None else symptom_of_losses(seen.training, rules)


def symptom_of_losses(training: Training, rules: Rules) -> Symptom:
    """How what falls while a flow learns changed. If it falls by a smaller share than `rules.minimum_fall`, it barely
    moves.
    """
    watched = rules.watched(training)
    if watched.before is None or watched.after is None:
        return Symptom.UNKNOWN
    before, after = watched.before, watched.after
    if not (_finite(before) and _finite(after)):
        return Symptom.NOT_FINITE
    if eval_loss_flat(before, after):
        return Symptom.FLAT
    if after > before:
        return Symptom.RISES
    return Symptom.FALLS if before - after >= rules.minimum_fall * before else Symptom.BARELY


def before_training(error: Failure) -> bool:
    """Whether `error` ended a flow before its training began."""
    return _ORDER.index(error.stage) < _ORDER.index(Stage.TRAINING)


_ORDER = tuple(Stage)


def signs(seen: Observation, rules: Rules = NEXT_TOKEN) -> tuple[Sign, ...]:
    """What the user of a flow that does not learn sees, in the terms of bug reports; empty if the flow learns."""
    training = seen.training
    looks = _LOOKS.get(symptom(seen, rules))
    if training is None or looks is None:
        return ()
    pair = (training.accuracy_before, training.accuracy_after)
    flat = None not in pair and len({round(value, DECIMALS) for value in pair if value is not None}) == 1
    return (
        looks,
        *((Sign.WIGGLES,) if wiggles(training.loss) else ()),
        *((Sign.ACCURACY_FLAT,) if flat else ()),
    )


_LOOKS = {Symptom.FLAT: Sign.EVAL_FLAT, Symptom.BARELY: Sign.EVAL_BARELY, Symptom.RISES: Sign.EVAL_RISES}


def wiggles(losses: Sequence[float]) -> bool:
    """Whether train losses vary around a line that does not fall. Different batches and dropout cause this when nothing
    is learned.
    """
    if len(losses) < FEWEST_LOSSES or not all(map(_finite, losses)):
        return False
    steps = range(len(losses))
    slope, start = statistics.linear_regression(steps, losses)
    scatter = math.sqrt(statistics.fmean((loss - start - slope * step) ** 2 for step, loss in enumerate(losses)))
    return max(losses) > min(losses) and -slope * (len(losses) - 1) < TREND * scatter


@dataclass(frozen=True, slots=True)
class Null:
    """How far eval loss changes when nothing is learned. A real fall must exceed this noise."""

    repeats: float
    """Largest difference between the falls of the flow and of its same-seed repeats."""
    twin: float
    """Absolute change of eval loss in the flow whose steps were undone."""
    luck: float
    """Largest absolute change in the flows whose steps had random directions; at least `LUCK / NULL_MARGIN` of the eval
    loss before training.
    """

    @property
    def noise(self) -> float:
        """The largest of the three."""
        return max(self.repeats, self.twin, self.luck)


def null_of(training: Training, deep: Deep) -> Null | None:
    """The noise for the fall of `training`; None if an eval loss of the flow or of its twin is missing."""
    own = fall_of(LossPair(training.eval_before, training.eval_after))
    twin = fall_of(deep.twin) if deep.twin else None
    if own is None or twin is None or training.eval_before is None:
        return None
    again = [fall for pair in deep.repeats if (fall := fall_of(pair)) is not None]
    wandered = [fall for pair in deep.wanderers if (fall := fall_of(pair)) is not None]
    return Null(
        repeats=max([own, *again]) - min([own, *again]),
        twin=abs(twin),
        luck=max([LUCK / NULL_MARGIN * training.eval_before, *map(abs, wandered)]),
    )


def fall_of(pair: LossPair) -> float | None:
    """How far eval loss fell; None if it was not reported or is not finite."""
    if pair.before is None or pair.after is None or not _finite(pair.before - pair.after):
        return None
    return pair.before - pair.after


def _finite(value: float) -> bool:
    return value - value == 0


def freeze_line(freeze: Freeze) -> str:
    """The line that froze parameters, after the chain of library calls to it, outermost first."""
    if not freeze.frames:
        return "an unknown line"
    chain = " -> ".join(f"{frame.file}:{frame.line}" for frame in freeze.frames)
    return f"{chain}: {freeze.frames[-1].code}"


def ended_in(error: Failure, measurement: str) -> str:
    """The message for a measurement of the deep tier that ended in an error."""
    return f"{measurement} could not be measured: {error.type} at {error.stage}: {error.message}"
