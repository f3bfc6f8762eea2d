"""Rules for any training run: cells, watched scripts and assertions in a user's test suite share them and their
messages. Each rule returns None, or a message that says what is wrong.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from finetune_compat.contract.records import Gradients, Optimizer, ParameterClass, Training

DECIMALS = 6
"""Eval losses that agree to this many decimals are called flat, as in the reports of trl#3926."""


def optimizer_wrong(held: Optimizer) -> str | None:
    """The optimizer must hold exactly the trainable parameters, and at least one."""
    if held.parameters and not held.missing and not held.extra:
        return None
    return (
        f"the optimizer holds {held.parameters:,} parameters; "
        f"{held.missing:,} trainable ones are missing from it and {held.extra:,} in it are not trainable"
    )


def gradients_absent(seen: Gradients, *, moved: bool) -> str | None:
    """Every trainable tensor must receive gradients that are finite, and not always exactly zero.

    Args:
        seen: the gradients that arrived.
        moved: whether any weight changed. If none did, `lora_B` stays zero, and so does the gradient of `lora_A`. Then
            zeros are reported only if all tensors have them; another rule reports the unchanged weights.
    """
    zero = seen.zero if moved or seen.zero == seen.tensors else 0
    if seen.tensors and not (seen.silent or zero or seen.non_finite):
        return None
    return (
        f"of {seen.tensors} trainable tensors {seen.silent} never received a gradient, {seen.zero} only zeros, "
        f"{seen.non_finite} a non-finite one"
    )


def gradients_missing(training: Training) -> str | None:
    """Every trainable tensor must receive gradients that are finite and not zero, from its first possible step on.

    That is step 2 for a factor behind one of zeros, such as `lora_A` behind `lora_B`, and step 1 for all others. At no
    step may all gradients be zero.
    """
    if absent := gradients_absent(training.gradients, moved=training.subject_delta != 0):
        return f"{absent}{_left_behind(training)}"
    late = [f"{name} at step {seen.reached}" for name, seen in training.classes.items() if _late(name, seen)]
    if late:
        return f"the first gradient other than zero came late: {', '.join(late)}"
    dry = [str(step) for step, norm in enumerate(training.grad_norm, 1) if norm == 0]
    return f"the whole gradient is exactly zero at step {', '.join(dry)}" if dry else None


def gradients_ended(training: Training) -> str | None:
    """Every tensor must receive gradients other than zero up to the last step."""
    ended = _ended({name: seen.gradients_until for name, seen in training.classes.items()}, training)
    return f"gradients other than zero ended before training did: {ended}" if ended else None


def gradients_followed(training: Training) -> bool:
    """Whether the record has the last step with a gradient for every class."""
    reached = [seen for seen in training.classes.values() if seen.reached is not None]
    return bool(training.classes) and all(seen.gradients_until is not None for seen in reached)


def _ended(until: Mapping[str, int | None], training: Training) -> str:
    """The classes with a tensor that ended before the last step. Classes with None are skipped: nothing is known."""
    last = len(training.grad_norm)
    return ", ".join(f"{name} after step {step} of {last}" for name, step in until.items() if step and step < last)


def _left_behind(training: Training) -> str:
    """A message part that names the tensors that did not change while others did; empty if there are none."""
    still = _still(training) if training.subject_delta else ""
    return f"; while others changed, these stood still: {still}" if still else ""


def _late(name: str, seen: ParameterClass) -> bool:
    return seen.reached is not None and seen.reached > (2 if behind_zeros(name) else 1)


def behind_zeros(name: str) -> bool:
    """Whether the class is the adapter factor behind a zero factor: it has no gradient until that factor changes."""
    return name.endswith(("lora_A", "lora_embedding_B", "vera_lambda_d"))


def held_back(training: Training) -> tuple[str, ...]:
    """Classes that cannot have changed yet: their other factor was zero until the last step with a gradient and a
    learning rate above zero.
    """
    steps = zip(training.grad_norm, training.learning_rate, strict=False)
    if sum(norm != 0 and rate > 0 for norm, rate in steps) > 1:
        return ()
    unreached = [name for name, seen in training.classes.items() if seen.reached is None and seen.unchanged]
    return tuple(filter(behind_zeros, unreached))


def loss_wrong(losses: Sequence[float], *, may_be_zero: bool = False) -> str | None:
    """The training loss that a trainer logs must be finite at every step, and not exactly zero at all of them.

    Args:
        losses: the logged losses, at least one.
        may_be_zero: whether the loss can be zero while the model learns, as with rewards.
    """
    if wrong := _not_finite("the logged training loss", losses):
        return wrong
    if may_be_zero or any(losses):
        return None
    return f"the logged training loss is exactly 0 {_everywhere(losses)}: Trainer logs a loss of NaN as 0"


def gradient_norm_wrong(name: str, norms: Sequence[float], *, may_be_zero: bool = False) -> str | None:
    """A norm of the whole gradient must be finite at every step, and not exactly zero at all of them."""
    if wrong := _not_finite(name, norms):
        return wrong
    return None if may_be_zero or any(norms) or not norms else f"{name} is exactly 0 {_everywhere(norms)}"


def _not_finite(name: str, values: Sequence[float]) -> str | None:
    wrong = [(place, value) for place, value in enumerate(values, 1) if not math.isfinite(value)]
    if not wrong:
        return None
    place, value = wrong[0]
    return f"{name} is not finite in {len(wrong)} of {len(values)} entries, first in entry {place}: {value}"


def _everywhere(values: Sequence[float]) -> str:
    return "in its only entry" if len(values) == 1 else f"in all {len(values)} entries"


def labels_masked(rows: int, masked: int) -> str | None:
    """Every training row must have a label to predict, and there must be rows."""
    return f"{masked} of {rows} rows have nothing to learn (every label is -100)" if masked or not rows else None


def weights_wrong(*, moved: bool, finite: bool) -> str | None:
    """The trained weights must change, and stay finite."""
    if not finite:
        return "some trained weights are NaN or infinite after training"
    return None if moved else "no trained weight changed at all"


def weights_stand_still(training: Training) -> str | None:
    """Every trained tensor must change, and stay finite."""
    if wrong := weights_wrong(moved=training.subject_delta != 0, finite=training.subject_finite):
        return wrong
    still = _still(training)
    return f"while others changed, these tensors stood still: {still}" if still else None


def weights_stopped(training: Training) -> str | None:
    """Every trained tensor must change up to the last step."""
    ended = _ended({name: seen.moving_until for name, seen in training.classes.items()}, training)
    return f"some tensors stopped changing before training ended: {ended}" if ended else None


def weights_followed(training: Training) -> bool:
    """Whether the record has the last step with a change for every class that changed."""
    changed = [seen for seen in training.classes.values() if not seen.unchanged]
    return bool(training.classes) and all(seen.moving_until is not None for seen in changed)


def _still(training: Training) -> str:
    """The tensors that did not change, counted by class, and the layers that consist of them."""
    still = [f"{c.unchanged} of {c.tensors} {name}" for name, c in training.classes.items() if c.unchanged]
    layers = f", all of {' and '.join(training.still_layers)}" if still and training.still_layers else ""
    return f"{', '.join(still)}{layers}"


def eval_loss_missing(before: float | None, after: float | None) -> str | None:
    """`evaluate()` must report a finite eval_loss before and after training."""
    if all(value is not None and math.isfinite(value) for value in (before, after)):
        return None
    return f"eval_loss was {before} before and {after} after training"


DIVERGED = 2.0
"""A loss has diverged if it ends above this many times its first value. Healthy steps lower it; steps of the same size
in random directions change it by at most 1.1 % (`reports/learning/`).
"""

FEWEST_NATS = 1.0
"""A diverged loss must also have risen by this much: every correct token is then e times less likely. A model that has
memorised its rows has losses below 1, which can double by chance.
"""

FEWEST_LOSSES = 4
"""Minimum number of logged losses to judge divergence without an evaluation: a single batch may be harder."""


def diverged(before: float | None, after: float | None, losses: Sequence[float]) -> str | None:
    """Loss must not end far above where it began.

    A model that memorises its rows gets worse on other rows. So an eval loss that rises while train loss falls has not
    diverged.

    Args:
        before: eval loss before training; None without an evaluation.
        after: the same after training.
        losses: the logged train losses, in order.
    """
    late = losses[len(losses) // 2 :]
    if before is None or after is None:
        if len(losses) < FEWEST_LOSSES or not _far_above(losses[0], min(late)):
            return None
        return f"train loss diverges: {losses[0]:.4f} -> {losses[-1]:.4f}, and at least {min(late):.4f} from half-way"
    begin = losses[0] if len(losses) > 1 else before
    if not _far_above(before, after) or (late and statistics.median(late) < begin):
        return None
    return f"eval loss diverges: {before:.4f} -> {after:.4f}"


def _far_above(before: float, after: float) -> bool:
    return after > DIVERGED * before and after - before > FEWEST_NATS


def eval_loss_flat(before: float, after: float) -> str | None:
    """Training must change eval loss in the first `DECIMALS` decimals. NaN before and after is flat, too."""
    first, last = f"{before:.{DECIMALS}f}", f"{after:.{DECIMALS}f}"
    return f"eval loss is flat to {DECIMALS} decimals: {first} -> {last}" if first == last else None
