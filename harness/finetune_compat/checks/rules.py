"""Rules that hold for any training, whoever runs it: the checks of our own flows and the assertions of a user's own
test suite say the same thing in the same words. Each returns None, or what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from finetune_compat.contract.records import Gradients, Optimizer, ParameterClass, Training

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


def gradients_absent(seen: Gradients, *, moved: bool) -> str | None:
    """Every trainable tensor must receive gradients that are finite, and not always exactly zero.

    Args:
        seen: what arrived.
        moved: whether any weight changed. Where none did, `lora_B` stays zero and with it the gradient of `lora_A`: the
            standstill says it.
    """
    zero = seen.zero if moved or seen.zero == seen.tensors else 0
    if seen.tensors and not (seen.silent or zero or seen.non_finite):
        return None
    return (
        f"of {seen.tensors} trainable tensors {seen.silent} never received a gradient, {seen.zero} only zeros, "
        f"{seen.non_finite} a non-finite one"
    )


def gradients_missing(training: Training) -> str | None:
    """Every trainable tensor must receive gradients that are finite and not zero, from the step where it must (the
    first, and for a `lora_A` behind a `lora_B` of zeros the second) up to the last. At no step may all of them be zero.
    """
    if absent := gradients_absent(training.gradients, moved=training.subject_delta != 0):
        return f"{absent}{_left_behind(training)}"
    late = [f"{name} at step {seen.reached}" for name, seen in training.classes.items() if _late(name, seen)]
    if late:
        return f"the first gradient other than zero came late: {', '.join(late)}"
    dry = [str(step) for step, norm in enumerate(training.grad_norm, 1) if norm == 0]
    if dry:
        return f"the whole gradient is exactly zero at step {', '.join(dry)}"
    ended = _ended({name: seen.gradients_until for name, seen in training.classes.items()}, training)
    return f"gradients other than zero ended before training did: {ended}" if ended else None


def _ended(until: Mapping[str, int | None], training: Training) -> str:
    """Classes some tensor of which went on only to an earlier step than the last. Of None nothing is known."""
    last = len(training.grad_norm)
    return ", ".join(f"{name} after step {step} of {last}" for name, step in until.items() if step and step < last)


def _left_behind(training: Training) -> str:
    """The tensors that did not change, where others did."""
    still = _still(training) if training.subject_delta else ""
    return f"; while others changed, these stood still: {still}" if still else ""


def _late(name: str, seen: ParameterClass) -> bool:
    return seen.reached is not None and seen.reached > (2 if name.endswith("lora_A") else 1)


def labels_masked(rows: int, masked: int) -> str | None:
    """Every row trained on must have something to learn, and there must be rows."""
    return f"{masked} of {rows} rows have nothing to learn (every label is -100)" if masked or not rows else None


def weights_wrong(*, moved: bool, finite: bool) -> str | None:
    """What is trained must change, and stay finite."""
    if not finite:
        return "some trained weights are NaN or infinite after training"
    return None if moved else "no trained weight changed at all"


def weights_stand_still(training: Training, *, to_the_end: bool = True) -> str | None:
    """Every class of what is trained must change, in every tensor, and stay finite.

    Args:
        training: what training did.
        to_the_end: whether every tensor must have changed in the last step too.
    """
    if wrong := weights_wrong(moved=training.subject_delta != 0, finite=training.subject_finite):
        return wrong
    if still := _still(training):
        return f"while others changed, these tensors stood still: {still}"
    if not to_the_end:
        return None
    ended = _ended({name: seen.moving_until for name, seen in training.classes.items()}, training)
    return f"some tensors stopped changing before training ended: {ended}" if ended else None


def _still(training: Training) -> str:
    """Which tensors did not change, by class, and the layers they fill."""
    still = [f"{c.unchanged} of {c.tensors} {name}" for name, c in training.classes.items() if c.unchanged]
    layers = f", all of {' and '.join(training.still_layers)}" if still and training.still_layers else ""
    return f"{', '.join(still)}{layers}"


def eval_loss_missing(before: float | None, after: float | None) -> str | None:
    """`evaluate()` must report a finite eval_loss before and after training."""
    if all(value is not None and math.isfinite(value) for value in (before, after)):
        return None
    return f"eval_loss was {before} before and {after} after training"


def eval_loss_flat(before: float, after: float) -> str | None:
    """Training must move eval loss in the first `DECIMALS` decimals; two that are not numbers have not moved either."""
    first, last = f"{before:.{DECIMALS}f}", f"{after:.{DECIMALS}f}"
    return f"eval loss is flat to {DECIMALS} decimals: {first} -> {last}" if first == last else None
