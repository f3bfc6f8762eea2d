"""Observations with the measurements of the deep tier, one small function per case."""

from __future__ import annotations

import dataclasses
import math

from builders import healthy
from finetune_compat.contract.catalog import Handicap
from finetune_compat.contract.records import (
    ClassDifference,
    Deep,
    Failure,
    LossPair,
    MetricResponse,
    Observation,
    Response,
    Stage,
    StepPair,
)
from finetune_compat.evidence.calibration import Sweep, judged

BEFORE, AFTER = 5.0, 4.0
"""Eval losses of every case: a fall of 1, which is a fifth."""


def deep(seen: Observation | None = None) -> Observation:
    """Everything is as declared in both tiers: repeats agree, the twin does not change, random steps move by 0.01."""
    seen = with_losses(seen or healthy(), BEFORE, AFTER)
    same = StepPair(4.8, 4.8, True, {"lora_A": ClassDifference(0.5, 0.5, 1e-7), "lora_B": ClassDifference(2, 2, 1e-7)})
    measured = Deep(
        repeats=(LossPair(BEFORE, AFTER), LossPair(BEFORE, AFTER)),
        twin=LossPair(BEFORE, BEFORE),
        wanderers=(LossPair(BEFORE, BEFORE - 0.01), LossPair(BEFORE, BEFORE + 0.01)),
        accumulation=same,
        checkpointing=same,
        evaluation=Response({"eval_loss": MetricResponse(AFTER, AFTER, 4.9, 5.0)}),
        other_order=tuple(range(16)),
        duration_s=3.0,
    )
    return dataclasses.replace(seen, deep=measured)


def with_losses(seen: Observation, before: float, after: float) -> Observation:
    """Other eval losses."""
    assert seen.training is not None
    training = dataclasses.replace(
        seen.training, eval_before=before, eval_after=after, reference_before=before, reference_after=after
    )
    return dataclasses.replace(seen, training=training)


def changed(seen: Observation, **changes: object) -> Observation:
    """Change other measurements of the deep tier."""
    assert seen.deep is not None
    return dataclasses.replace(seen, deep=dataclasses.replace(seen.deep, **changes))  # type: ignore[arg-type]


def scaled(factor: float, loss_factor: float = 1.0) -> StepPair:
    """The other setup gives `factor` times the gradient and reports `loss_factor` times the loss."""
    classes = {
        name: ClassDifference(norm, factor * norm, abs(factor - 1) * norm)
        for name, norm in (("lora_A", 0.5), ("lora_B", 2.0))
    }
    return StepPair(4.8, loss_factor * 4.8, True, classes)


def turned(share: float) -> StepPair:
    """The other setup gives gradients of the same size that are apart by a share of it."""
    norms = (("lora_A", 0.5), ("lora_B", 2.0))
    return StepPair(4.8, 4.8, True, {name: ClassDifference(norm, norm, share * norm) for name, norm in norms})


def zeroed(*names: str) -> StepPair:
    """In the other setup, gradients of these classes are present and zero."""
    norms = {"lora_A": 0.5, "lora_B": 2.0}
    other = {name: 0.0 if name in names else norm for name, norm in norms.items()}
    return StepPair(
        4.8, 4.8, True, {name: ClassDifference(n, other[name], n - other[name]) for name, n in norms.items()}
    )


def ended(seen: Observation, measurement: str) -> Observation:
    """A measurement ended in an error although the flow did not."""
    failure = Failure("RuntimeError", "planted", Stage.TRAINING, ())
    lost = {"repeats": (), "wanderers": ()}.get(measurement)
    return changed(seen, **{measurement: lost}, failures={measurement: failure})


def not_finite(seen: Observation) -> Observation:
    """The gradient in the other setup is NaN."""
    nan = math.nan
    return changed(seen, accumulation=StepPair(4.8, 4.8, True, {"lora_A": ClassDifference(0.5, nan, nan)}))


def swept(seed: int) -> list[Observation]:
    """The six runs of one seed of a healthy sweep: eval losses of 5.0 that fall as far as they can."""
    runs = {None: 4.0, Handicap.FROZEN: 5.0, Handicap.WANDERING: 4.99, Handicap.HUNDREDTH: 4.98}
    seen = [_run(seed, handicap, after) for handicap, after in runs.items()]
    partly = [_run(seed, handicap, 4.5) for handicap in (Handicap.ONE_LAYER, Handicap.ONE_CLASS)]
    return [*seen, *map(half_still, partly)]


def _run(seed: int, handicap: Handicap | None, after: float) -> Observation:
    return dataclasses.replace(with_losses(healthy("sft-peft-config"), 5.0, after), seed=seed, handicap=handicap)


def half_still(seen: Observation) -> Observation:
    """In one of two layers nothing changed."""
    assert seen.training is not None
    classes = {
        name: dataclasses.replace(found, unchanged=found.tensors // 2, moving_until=None)
        for name, found in seen.training.classes.items()
    }
    training = dataclasses.replace(seen.training, classes=classes, still_layers=("layers.1",))
    return dataclasses.replace(seen, training=training)


QWEN2, LLAMA = (f"trl0.24-py311/sft-peft-config[{name}-full-nogc]@cpu" for name in ("qwen2", "llama"))


def seeds(number: int) -> list[Observation]:
    """All runs of a sweep over so many seeds."""
    return [seen for seed in range(number) for seen in swept(seed)]


def long(first: int = 0, last: int = 199, cell: str = QWEN2) -> Sweep:
    """A sweep of as many seeds as needed, repeating two of them."""
    return dataclasses.replace(judged(seeds(2)), seeds=(first, last), cell=cell)
