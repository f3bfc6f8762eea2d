"""What was learned, as evaluation tells it."""

from __future__ import annotations

from harness.checks import rules
from harness.checks.case import MINIMUM_FALL, Case, symptom
from harness.checks.verdict import Symptom


def eval_loss_present(case: Case) -> str | None:
    """`evaluate()` reports a finite eval_loss before and after training."""
    return rules.eval_loss_missing(case.training)


def eval_loss_falls(case: Case) -> str | None:
    """Eval loss on held-out rows falls by more than a healthy run can miss."""
    training = case.training
    before, after = training.eval_before, training.eval_after
    if before is None or after is None or symptom(case.seen) is Symptom.FALLS:
        return None
    if flat := rules.eval_loss_flat(before, after):
        return flat
    if after > before:
        return f"eval loss rises: {before:.6f} -> {after:.6f}"
    return f"eval loss {before:.6f} -> {after:.6f}: a fall of {before - after:.4f}, under {MINIMUM_FALL:.0%} of it"
