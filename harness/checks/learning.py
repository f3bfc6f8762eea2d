"""What was learned, as evaluation tells it."""

from __future__ import annotations

import math

from harness.checks.case import DECIMALS, MINIMUM_FALL, Case, symptom
from harness.checks.verdict import Symptom


def eval_loss_present(case: Case) -> str | None:
    """`evaluate()` reports a finite eval_loss before and after training."""
    training = case.training
    pair = (training.eval_before, training.eval_after)
    if all(value is not None and math.isfinite(value) for value in pair):
        return None
    return f"eval_loss was {pair[0]} before and {pair[1]} after training"


def eval_loss_falls(case: Case) -> str | None:
    """Eval loss on held-out rows falls by more than a healthy run can miss."""
    training = case.training
    before, after = training.eval_before, training.eval_after
    if before is None or after is None or symptom(case.seen) is Symptom.FALLS:
        return None
    if symptom(case.seen) is Symptom.FLAT:
        return f"eval loss is flat to {DECIMALS} decimals: {before:.6f} -> {after:.6f}"
    if after > before:
        return f"eval loss rises: {before:.6f} -> {after:.6f}"
    return f"eval loss {before:.6f} -> {after:.6f}: a fall of {before - after:.4f}, under {MINIMUM_FALL:.0%} of it"
