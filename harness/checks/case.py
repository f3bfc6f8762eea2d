"""One observation beside what its user was entitled to: what every check looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from harness import counts
from harness.catalog import Expect, Flow
from harness.checks.verdict import Symptom
from harness.records import Absence, Freeze, ModelSizes, Observation, Stage, Training

MINIMUM_FALL = 0.05
"""Share of the eval loss a healthy cell must lose. Measured healthy cells lose 13 % and more in ten steps; a frozen one
loses exactly nothing.
"""

DECIMALS = 6
"""Eval losses that agree to this many decimals are called flat, as the users of trl#3926 saw them."""


class NotApplicable(Exception):
    """The observation has nothing this check could be held against; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """What was observed, and the catalog's row for it."""

    seen: Observation
    flow: Flow

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
    def sizes(self) -> ModelSizes:
        """What the parameters must add up to: in closed form for a tiny model, as recorded for real weights.

        Raises:
            NotApplicable: neither is known.
        """
        if self.seen.sizes is not None:
            return self.seen.sizes
        if self.seen.model is None:
            raise NotApplicable("the sizes of the model are not known")
        return counts.sizes(self.seen.model, self.seen.variant.precision, self.seen.lora)

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


def symptom(seen: Observation) -> Symptom:
    """What the user of the flow would have seen."""
    if seen.error is not None:
        return Symptom.ERROR
    training = seen.training
    if training is None or training.eval_before is None or training.eval_after is None:
        return Symptom.UNKNOWN
    before, after = training.eval_before, training.eval_after
    if not (_finite(before) and _finite(after)):
        return Symptom.NOT_FINITE
    if round(before, DECIMALS) == round(after, DECIMALS):
        return Symptom.FLAT
    if after > before:
        return Symptom.RISES
    return Symptom.FALLS if before - after >= MINIMUM_FALL * before else Symptom.BARELY


def _finite(value: float) -> bool:
    return value - value == 0


def freeze_line(freeze: Freeze) -> str:
    """The line that froze, and the library calls that led to it, outermost first."""
    if not freeze.frames:
        return "an unknown line"
    chain = " -> ".join(f"{frame.file}:{frame.line}" for frame in freeze.frames)
    return f"{chain}: {freeze.frames[-1].code}"
