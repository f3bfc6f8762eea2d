"""One observation beside what its user was entitled to: what every check looks at."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

from finetune_compat.checks.engine import NOT_DEEP, NotApplicable
from finetune_compat.checks.objectives import MINIMUM_FALL, RULES, Rules
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
"""Share of the eval loss that steps in random directions may lose by luck, nearly twice what they did in the sweeps."""

NULL_MARGIN = 3.0
"""How many times the noise measured beside a flow its fall must be: few random walks show little of what one can do."""

TREND = 3.0
"""How many times the scatter around its line a train loss must fall to have a trend. The fall of the line through ten
values without one has a standard deviation of one scatter: sqrt(12 * 9 / (10 * 11)).
"""

FEWEST_LOSSES = 4
"""Train losses through which a line leaves any scatter worth the name."""


NOT_RECORDED = "recorded before "
"""Beginning of why a check does not apply to an observation of an older harness, which lacks what it looks at."""


@dataclass(frozen=True)
class Case:
    """What was observed, and the catalog's row for it. A dozen checks look at one."""

    seen: Observation
    flow: Flow

    def census(self, stage: Stage) -> Census | None:
        """As `Observation.census`, which a dozen checks ask for."""
        return self._censuses[stage]

    @cached_property
    def _censuses(self) -> Mapping[Stage, Census | None]:
        return {stage: self.seen.census(stage) for stage in CENSUS_STAGES}

    @property
    def training(self) -> Training:
        """What training did.

        Raises:
            NotApplicable: it did not finish.
        """
        if self.seen.training is None:
            raise NotApplicable("training did not finish")
        return self.seen.training

    @property
    def deep(self) -> Deep:
        """What the deep tier measured.

        Raises:
            NotApplicable: it was not run for this cell.
        """
        if self.seen.deep is None:
            raise NotApplicable(NOT_DEEP)
        return self.seen.deep

    @cached_property
    def sizes(self) -> ModelSizes:
        """What the parameters must add up to: in closed form for a tiny model, as recorded for real weights.

        Raises:
            NotApplicable: neither is known.
        """
        if self.seen.sizes is not None:
            return self.seen.sizes
        if self.seen.model is None:
            raise NotApplicable("the sizes of the model are not known")
        return closed_forms.sizes(self.seen.model, self.seen.variant.precision, self.seen.lora)

    def expected(self, expect: Expect) -> frozenset[int]:
        """The stored trainable counts that fulfil `expect`."""
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
        """Those of the flow's objective."""
        return RULES[self.flow.objective]

    @cached_property
    def symptom(self) -> Symptom:
        """What the user of the flow would have seen."""
        return symptom(self.seen, self.rules.minimum_fall)

    @cached_property
    def signs(self) -> tuple[Sign, ...]:
        """How it looks to them, where it does not learn."""
        return signs(self.seen, self.rules.minimum_fall)

    @cached_property
    def adapter(self) -> int:
        """Adapter parameters; 0 for a flow without adapters."""
        return sum(self.sizes.adapters_on.values())

    def absence(self, stage: Stage) -> Absence | None:
        """Why `stage` has no census, if it has none."""
        return next((absent.reason for absent in self.seen.absent if absent.name is stage), None)

    @property
    def refused(self) -> bool:
        """Whether the library refused this flow with an error that says what is wrong."""
        error = self.seen.error
        return (
            error is not None
            and self.flow.refusal is not None
            and error.stage is Stage.TRAINER
            and error.type == "ValueError"
            and self.flow.refusal in error.message
        )


def symptom(seen: Observation, minimum_fall: float = MINIMUM_FALL) -> Symptom:
    """What the user of the flow would have seen; an eval loss that lost less than `minimum_fall` of it barely moved."""
    if seen.error is not None:
        return Symptom.ERROR
    training = seen.training
    if training is None or training.eval_before is None or training.eval_after is None:
        return Symptom.UNKNOWN
    before, after = training.eval_before, training.eval_after
    if not (_finite(before) and _finite(after)):
        return Symptom.NOT_FINITE
    if eval_loss_flat(before, after):
        return Symptom.FLAT
    if after > before:
        return Symptom.RISES
    return Symptom.FALLS if before - after >= minimum_fall * before else Symptom.BARELY


def before_training(error: Failure) -> bool:
    """Whether an error ended a flow before its training began."""
    return _ORDER.index(error.stage) < _ORDER.index(Stage.TRAINING)


_ORDER = tuple(Stage)


def signs(seen: Observation, minimum_fall: float = MINIMUM_FALL) -> tuple[Sign, ...]:
    """How a flow that does not learn looks to its user, in the words of those who met one."""
    training = seen.training
    looks = _LOOKS.get(symptom(seen, minimum_fall))
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
    """Whether train losses go up and down around a line that does not fall, as different batches and dropout make them
    do where nothing is learned.
    """
    if len(losses) < FEWEST_LOSSES or not all(map(_finite, losses)):
        return False
    steps = range(len(losses))
    slope, start = statistics.linear_regression(steps, losses)
    scatter = math.sqrt(statistics.fmean((loss - start - slope * step) ** 2 for step, loss in enumerate(losses)))
    return max(losses) > min(losses) and -slope * (len(losses) - 1) < TREND * scatter


@dataclass(frozen=True, slots=True)
class Null:
    """How far eval loss falls, or rises, where nothing is learned: what a fall must be told from."""

    repeats: float
    """Largest difference between the falls of the flow and of its same-seed repeats."""
    twin: float
    """Of the flow each step of which was undone."""
    luck: float
    """The most of the flows whose steps had random directions, or of what luck is known to do."""

    @property
    def noise(self) -> float:
        """The largest of the three."""
        return max(self.repeats, self.twin, self.luck)


def null_of(training: Training, deep: Deep) -> Null | None:
    """What the fall of `training` must be told from; None where an eval loss of the flow or of its twin is missing."""
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
    """How far eval loss fell; None where it was not reported or is not finite."""
    if pair.before is None or pair.after is None or not _finite(pair.before - pair.after):
        return None
    return pair.before - pair.after


def _finite(value: float) -> bool:
    return value - value == 0


def freeze_line(freeze: Freeze) -> str:
    """The line that froze, and the library calls that led to it, outermost first."""
    if not freeze.frames:
        return "an unknown line"
    chain = " -> ".join(f"{frame.file}:{frame.line}" for frame in freeze.frames)
    return f"{chain}: {freeze.frames[-1].code}"


def ended_in(error: Failure, measurement: str) -> str:
    """The sentence on a measurement of the deep tier that ended in an error, where the flow itself had not."""
    return f"{measurement} could not be measured: {error.type} at {error.stage}: {error.message}"
