"""Rules that hold for any training, whoever runs it: the checks of our own flows and the assertions of a user's own
test suite say the same thing in the same words. Each returns None, or what is wrong.
"""

from __future__ import annotations

import math

from harness.records import Labels, Optimizer, ParameterClass, Training

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
    """Every trainable tensor must receive gradients that are finite and not zero, at the step where it must: the first,
    and for a `lora_A` behind a `lora_B` of zeros the second.
    """
    grads = training.gradients
    # Where no weight ever moved, lora_B stays zero and with it the gradient of lora_A: the standstill says it.
    zero = 0 if training.subject_delta == 0 and grads.zero < grads.tensors else grads.zero
    if not grads.tensors or grads.silent or zero or grads.non_finite:
        return (
            f"of {grads.tensors} trainable tensors {grads.silent} never received a gradient, {grads.zero} only zeros, "
            f"{grads.non_finite} a non-finite one{_left_behind(training)}"
        )
    late = [f"{name} at step {seen.reached}" for name, seen in training.classes.items() if _late(name, seen)]
    return f"the first gradient other than zero came late: {', '.join(late)}" if late else None


def _left_behind(training: Training) -> str:
    """The tensors that did not change, where others did."""
    still = _still(training) if training.subject_delta else ""
    return f"; while others changed, these stood still: {still}" if still else ""


def _late(name: str, seen: ParameterClass) -> bool:
    return seen.reached is not None and seen.reached > (2 if name.endswith("lora_A") else 1)


def labels_masked(labels: Labels) -> str | None:
    """Every row trained on must have something to learn."""
    if labels.samples and not labels.all_masked:
        return None
    return f"{labels.all_masked} of {labels.samples} rows have nothing to learn (every label is -100)"


def weights_stand_still(training: Training) -> str | None:
    """Every class of what is trained must change, in every tensor, and stay finite."""
    if not training.subject_finite:
        return "some trained weights are NaN or infinite after training"
    if training.subject_delta == 0:
        return "no trained weight changed at all"
    still = _still(training)
    return f"while others changed, these tensors stood still: {still}" if still else None


def _still(training: Training) -> str:
    """Which tensors did not change, by class, and the layers they fill."""
    still = [f"{c.unchanged} of {c.tensors} {name}" for name, c in training.classes.items() if c.unchanged]
    layers = f", all of {' and '.join(training.still_layers)}" if still and training.still_layers else ""
    return f"{', '.join(still)}{layers}"


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
