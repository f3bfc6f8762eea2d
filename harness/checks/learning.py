"""What was learned, as evaluation tells it."""

from __future__ import annotations

import math

from harness.checks.case import DECIMALS, MINIMUM_FALL, Case, NotApplicable, symptom
from harness.checks.verdict import Symptom

REFERENCE_TOLERANCE = 1e-4
"""Relative difference of two float32 sums over the same tokens in another order, with room: 2e-7 was measured."""


def eval_loss_present(case: Case) -> str | None:
    """`evaluate()` reports a finite eval_loss before and after training."""
    training = case.training
    pair = (training.eval_before, training.eval_after)
    if all(value is not None and math.isfinite(value) for value in pair):
        return None
    return f"eval_loss was {pair[0]} before and {pair[1]} after training"


def eval_loss_is_what_the_logits_say(case: Case) -> str | None:
    """`eval_loss` is the mean negative log-likelihood of the label tokens, as computed from the model's own logits."""
    training = case.training
    pairs = ((training.eval_before, training.reference_before), (training.eval_after, training.reference_after))
    known = [(said, own) for said, own in pairs if said is not None and own is not None]
    if not known:
        raise NotApplicable("no eval_loss, or no logits to hold it against")
    off = [(said, own) for said, own in known if not math.isclose(said, own, rel_tol=REFERENCE_TOLERANCE)]
    return f"eval_loss says {off[0][0]:.6f}, the logits say {off[0][1]:.6f}" if off else None


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
