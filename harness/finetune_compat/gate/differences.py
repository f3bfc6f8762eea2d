"""Differences between two observations of one cell, other than the results of training. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from finetune_compat.checks.drift import TOLERANCE
from finetune_compat.contract.records import CENSUS_STAGES, Census, Observation
from finetune_compat.gate.decision import Aspect, Difference

ABSENT = "-"


def differences(before: Observation | None, after: Observation | None) -> tuple[Difference, ...]:
    """Differing counts, dtypes, checkpointing and matched modules at each stage, and a differing loss before updates.

    A stage that only one side reached is not a difference. Nor is a fact that an older observation does not record.
    """
    if before is None or after is None:
        return ()
    found: list[Difference] = []
    for stage in CENSUS_STAGES:
        one, other = before.census(stage), after.census(stage)
        if one is not None and other is not None:
            found += _of_stage(one, other)
    return (*found, *_loss(before, after))


def _of_stage(one: Census, other: Census) -> Iterator[Difference]:
    shown = (
        (Aspect.TRAINABLE, f"{one.trainable:,}", f"{other.trainable:,}"),
        (Aspect.TOTAL, f"{one.total:,}", f"{other.total:,}"),
        (Aspect.DTYPES, _names(one.dtypes), _names(other.dtypes)),
        (Aspect.ADAPTER_DTYPES, " ".join(one.adapter_dtypes), " ".join(other.adapter_dtypes)),
        (Aspect.CHECKPOINTING, one.checkpointing, other.checkpointing),
        (Aspect.MODULES, _counted(one.adapted), _counted(other.adapted)),
    )
    for aspect, was, is_now in shown:
        if was is not None and is_now is not None and was != is_now:
            yield Difference(aspect, one.name, was or ABSENT, is_now or ABSENT)


def _names(dtypes: Mapping[str, int]) -> str:
    return " ".join(sorted(dtypes))


def _counted(modules: Mapping[str, int] | None) -> str | None:
    return None if modules is None else " ".join(f"{name} x{number}" for name, number in sorted(modules.items()))


def _loss(before: Observation, after: Observation) -> tuple[Difference, ...]:
    one = before.training.eval_before if before.training else None
    other = after.training.eval_before if after.training else None
    same = one is not None and other is not None and math.isclose(one, other, rel_tol=TOLERANCE)
    both_none_or_nan = _formatted(one) == _formatted(other) and (one is None or math.isnan(one))
    if before.training is None or after.training is None or same or both_none_or_nan:
        return ()
    return (Difference(Aspect.LOSS, None, _formatted(one), _formatted(other)),)


def _formatted(loss: float | None) -> str:
    return ABSENT if loss is None else f"{loss:.6f}"
