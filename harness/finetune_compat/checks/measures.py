"""The value behind a failing check, for checks whose failures differ in size. The ledger lists it with the issue."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from finetune_compat.checks.case import Case
from finetune_compat.contract.records import Area

SAME_MEASURE = 0.02
"""Relative difference within which two measured values are the same: adapters in bfloat16 round gradients to 8 bits."""


def rows_without_labels(case: Case) -> float | None:
    """The share of rows without a label; None if no row was seen, or if rows without a label have labels."""
    labels = case.seen.labels
    if labels is None or not labels.samples or (labels.all_masked == labels.samples and labels.label_tokens):
        return None
    return labels.all_masked / labels.samples


def accumulated_gradient(case: Case) -> float | None:
    """The accumulated gradient as a multiple of the plain one; None if it is not the same multiple everywhere."""
    pair = case.seen.deep.accumulation if case.seen.deep else None
    if pair is None or not pair.classes or not all(seen.one for seen in pair.classes.values()):
        return None
    factors = [seen.other / seen.one for seen in pair.classes.values()]
    # A multiple has the direction of the plain gradient: it is as far away as it is longer or shorter.
    along = all(
        math.isclose(seen.difference, abs(seen.other - seen.one), rel_tol=SAME_MEASURE)
        for seen in pair.classes.values()
    )
    return factors[0] if along and all(same_measure(factor, factors[0]) for factor in factors) else None


def gradients_apart(case: Case) -> float | None:
    """How far the accumulated gradient is from the plain one where it is not a multiple of it: the largest difference
    of a class of tensors, as a share of the longer gradient. None if it is a multiple, or was not measured.
    """
    pair = case.seen.deep.accumulation if case.seen.deep else None
    if pair is None or not pair.classes or accumulated_gradient(case) is not None:
        return None
    return max(seen.relative for seen in pair.classes.values())


MEASURES: Mapping[str, Callable[[Case], float | None]] = {"L501": rows_without_labels, "G402": accumulated_gradient}
"""The measured value, by code."""


def same_measure(one: float, other: float) -> bool:
    """Whether two measured values are the same within `SAME_MEASURE`."""
    return math.isclose(one, other, rel_tol=SAME_MEASURE)


def cut_off(case: Case, area: Area) -> bool:
    """Whether exactly the trainable tensors of `area` never received a gradient other than zero."""
    training = case.seen.training
    if training is None:
        return False
    inside = {name for name in training.classes if name.startswith(f"{area} ")}
    never = {name for name, seen in training.classes.items() if seen.reached is None}
    tensors = sum(training.classes[name].tensors for name in inside)
    return bool(inside) and never == inside and training.gradients.silent + training.gradients.zero == tensors
