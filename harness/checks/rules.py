"""Rules that hold for any training, whoever runs it: the checks of our own flows and the assertions of a user's own
test suite say the same thing in the same words. Each returns None, or what is wrong.
"""

from __future__ import annotations

import math

from harness.records import Labels, Optimizer, Training

DECIMALS = 6
"""Eval losses that agree to this many decimals are called flat, as the users of trl#3926 saw them."""


def optimizer_wrong(held: Optimizer) -> str | None:
    """The optimizer must hold exactly the trainable parameters, and some."""
    if held.parameters and not held.missing and not held.extra:
        return None
    return (
        f"the optimizer holds {held.parameters:,} parameters; "
        f"{held.missing:,} trainable ones are missing from it and {held.extra:,} in it are not trainable"
    )


def gradients_missing(training: Training) -> str | None:
    """Every trainable tensor must receive a gradient that is finite, and not always exactly zero."""
    grads = training.gradients
    # Where no weight ever moved, lora_B stays zero and with it the gradient of lora_A: the standstill says it.
    zero = 0 if training.subject_delta == 0 and grads.zero < grads.tensors else grads.zero
    if grads.tensors and not (grads.silent or zero or grads.non_finite):
        return None
    return (
        f"of {grads.tensors} trainable tensors {grads.silent} never received a gradient, {grads.zero} only zeros, "
        f"{grads.non_finite} a non-finite one"
    )


def labels_masked(labels: Labels) -> str | None:
    """Every row trained on must have something to learn."""
    if labels.samples and not labels.all_masked:
        return None
    return f"{labels.all_masked} of {labels.samples} rows have nothing to learn (every label is -100)"


def weights_stand_still(training: Training) -> str | None:
    """What is trained must change, and stay finite."""
    if not training.subject_finite:
        return "some trained weights are NaN or infinite after training"
    return None if training.subject_delta > 0 else "no trained weight changed at all"


def eval_loss_missing(training: Training) -> str | None:
    """`evaluate()` must report a finite eval_loss before and after training."""
    pair = (training.eval_before, training.eval_after)
    if all(value is not None and math.isfinite(value) for value in pair):
        return None
    return f"eval_loss was {pair[0]} before and {pair[1]} after training"


def eval_loss_flat(before: float, after: float) -> str | None:
    """Training must move eval loss in the first `DECIMALS` decimals; two that are not numbers have not moved either."""
    first, last = f"{before:.{DECIMALS}f}", f"{after:.{DECIMALS}f}"
    return f"eval loss is flat to {DECIMALS} decimals: {first} -> {last}" if first == last else None
