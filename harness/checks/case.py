"""One observation beside what its user was entitled to: what every check looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from harness import counts
from harness.catalog import Expect, Flow
from harness.checks.verdict import Symptom
from harness.records import Absence, Area, Freeze, Observation, Stage, Training

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

    def expected(self, expect: Expect) -> frozenset[int]:
        """The stored trainable counts that fulfil `expect`, in closed form."""
        model, precision = self.seen.model, self.seen.variant.precision
        match expect:
            case Expect.NONE:
                return frozenset({0})
            case Expect.ADAPTER:
                return frozenset({self.adapter})
            case Expect.EVERYTHING:
                return frozenset({counts.base_stored(model, precision)})
            case Expect.UNQUANTIZED if not precision.quantized:
                return frozenset({counts.base_stored(model, precision)})
            case Expect.UNQUANTIZED:
                # Biases of quantized layers stay trainable at load from Transformers 5 on; before, the whole layer is
                # frozen with its weight. Both leave exactly what is not quantized, and preparation freezes either.
                rest = counts.never_linear(model)
                return frozenset({rest, rest + counts.linear_biases(model)})
        assert_never(expect)

    @property
    def adapter(self) -> int:
        """Adapter parameters in closed form; 0 for a flow without adapters."""
        return counts.adapter(self.seen.model, self.seen.lora) if self.seen.lora else 0

    @property
    def adapters_on(self) -> Mapping[Area, int]:
        """Adapter parameters in closed form, by the area they sit in."""
        return counts.adapters_on(self.seen.model, self.seen.lora) if self.seen.lora else {}

    @property
    def dtypes_at_load(self) -> Mapping[str, int]:
        """Stored elements of the base model by dtype, as asked for: float32, or what stores quantized weights."""
        model, precision = self.seen.model, self.seen.variant.precision
        if not precision.quantized:
            return {"float32": counts.base_logical(model)}
        packed = counts.stored_weights(model, precision)
        rest = counts.base_stored(model, precision) - packed
        return {"float32": rest, "uint8" if precision.four_bit else "int8": packed}

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
