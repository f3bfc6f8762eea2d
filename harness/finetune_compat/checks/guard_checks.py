"""Checks of a training run while it runs: measurements -> a problem, or None. Standard library only.

Stopping a healthy run costs more than stopping a bad run three steps late. So every rule states over how many steps it
judges, and what it ignores because healthy runs do it too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.rules import eval_loss_flat
from finetune_compat.contract.records import Area, Census, Optimizer

FEWEST_ROWS = 8
"""Consecutive masked rows before the data are called empty. With one row a step, three in sequence can be chance."""

SCALER_SKIPS = 20
"""Consecutive steps that a gradient scaler may skip. Its scale starts at 2**16 and halves: 16 skips lower it to 1."""

SMALLEST_LOSS = 1e-4
"""Smaller eval losses have too few digits before the sixth decimal to be called flat: the model may have memorised its
data.
"""

LOOKS_AT_EACH = 10
"""Number of checked steps before tensors are reported that received only zeros in all of them while others trained."""

NAMED = 3
"""Number of parameters that a message names; it counts the rest."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a run learns nothing."""

    code: str
    what: str
    """What was measured in this run."""
    meaning: str
    """What this usually means."""

    @property
    def todo(self) -> str:
        """What to do next."""
        return CODES[self.code].advice


@dataclass(frozen=True, slots=True)
class Look:
    """Measurements of one optimizer step, over all its micro-batches, before gradient clipping."""

    step: int
    tensors: int
    """Number of tensors that the optimizer trains; 0 if gradients cannot be read."""
    silent: tuple[str, ...]
    """Names of the tensors that received no gradient in this step."""
    zero: tuple[str, ...]
    """Names of the tensors whose gradient is exactly zero."""
    non_finite: tuple[str, ...]
    """Names of the tensors whose gradient has NaN or infinite values."""
    rows: int
    """Number of rows with a label per token; 0 if the model received no such labels."""
    masked: int
    """Rows with no label to predict: all are -100, except perhaps the first, which is never predicted."""

    @property
    def dead(self) -> bool:
        """Whether no tensor received a gradient other than zero. A single silent tensor may be an idle expert."""
        return self.tensors > 0 and len(self.silent) + len(self.zero) == self.tensors

    @property
    def empty(self) -> bool:
        """Whether there are rows, and none has a label to predict."""
        return 0 < self.rows == self.masked

    @property
    def suspicious(self) -> bool:
        """Whether the next step must be checked too."""
        return self.dead or self.empty or bool(self.non_finite)


def nothing_trainable(census: Census) -> Problem | None:
    """Something must be trainable when training begins."""
    if census.trainable:
        return None
    adapters = census.by_area.get(Area.ADAPTER)
    what = f"nothing is trainable: 0 of {census.total_logical:,} parameters"
    if adapters is None:
        return Problem(
            "C104",
            what,
            "Every step would run and nothing would be learned: all parameters have requires_grad=False.",
        )
    return Problem(
        "C104",
        f"{what}; all {adapters.total:,} adapter parameters are frozen",
        "Every step would run and nothing would be learned. SFTTrainer of TRL 0.20.0 to 0.23.0 freezes the adapters of "
        "a quantized PeftModel (https://github.com/huggingface/trl/issues/3926); PeftModel.from_pretrained without "
        "is_trainable=True, and a config saved with inference_mode=true, freeze them on any version.",
    )


def optimizer_incomplete(held: Optimizer, missing: Sequence[str], trainable: int) -> Problem | None:
    """The optimizer must hold every trainable parameter. Additional parameters do no harm.

    Args:
        held: counts of what the optimizer holds, in elements.
        missing: names of the trainable tensors that the optimizer does not hold.
        trainable: number of trainable elements.
    """
    if not held.missing:
        return None
    if not held.parameters:
        what = f"the optimizer is empty: it holds none of the {trainable:,} trainable parameters"
    elif held.missing == trainable:
        what = f"the optimizer holds {held.parameters:,} parameters and none of the {trainable:,} trainable ones"
    else:
        what = f"the optimizer misses {held.missing:,} of {trainable:,} trainable parameters: {_named(missing)}"
    return Problem(
        "O301",
        what,
        "Parameters that the optimizer does not hold never change, even if loss and gradients look normal. It "
        "was built before these parameters became trainable, or for another model.",
    )


def labels_masked(looks: Sequence[Look], patience: int, *, scaled: bool) -> Problem | None:
    """Rows must have labels to predict.

    Fewer than `patience` consecutive steps, or fewer than `FEWEST_ROWS` rows, without labels are ignored. They are not
    ignored if the gradient of the last step is not finite and no gradient scaler skips the step.
    """
    streak = _last(looks, lambda look: look.empty)
    rows = sum(look.rows for look in streak)
    poisoned = bool(streak and streak[-1].non_finite) and not scaled
    if not poisoned and (len(streak) < patience or rows < FEWEST_ROWS):
        return None
    gradient = ", and the gradient is not finite" if poisoned else ""
    return Problem(
        "L501",
        f"there is nothing to learn in {_steps(streak)}: none of {rows} rows has a label to predict{gradient}",
        "All labels are -100, except perhaps the first of a row; a loss over no labels is 0 or NaN. Truncation removed "
        "the answers, the mask (completions only, assistant only) kept nothing, or the tokenizer found no tokens.",
    )


def gradients_not_finite(looks: Sequence[Look], *, scaled: bool) -> Problem | None:
    """Gradients must be finite. Up to `SCALER_SKIPS` consecutive steps are allowed if a gradient scaler skips them."""
    streak = _last(looks, lambda look: bool(look.non_finite))
    if not streak or (scaled and len(streak) <= SCALER_SKIPS):
        return None
    last = streak[-1]
    hint = f" {last.masked} of {last.rows} rows of the step had no label to predict: their loss is NaN."
    return Problem(
        "G404",
        f"gradients are NaN or infinite in {_steps(streak)}, "
        f"in {len(last.non_finite)} of {last.tensors} trainable tensors: {_named(last.non_finite)}",
        (
            "The gradient scaler lowers its scale, without effect."
            if scaled
            else "The optimizer has written them into weights: restart from the last checkpoint."
        )
        + (hint if last.masked else ""),
    )


def no_gradient(looks: Sequence[Look], patience: int, *, rewarded: bool) -> Problem | None:
    """Some tensor must receive a gradient other than zero within `patience` steps.

    The rule covers all tensors, because single tensors are idle in healthy runs: `lora_A` at step 1, where `lora_B` is
    zero, or an expert that receives no token. Steps without a label to predict are ignored: they have no gradient. If
    the gradient comes from rewards (`rewarded`), `looks` must hold only steps whose rewards differ: with equal rewards
    the gradient is zero by definition.
    """
    streak = _last(looks, lambda look: look.dead and not look.empty)
    if len(streak) < patience:
        return None
    last = streak[-1]
    although = " although the rewards differ" if rewarded else ""
    return Problem(
        "G401",
        f"no gradient reaches the weights in {_steps(streak)}{although}: "
        f"of {last.tensors} trainable tensors {len(last.silent)} received none and {len(last.zero)} only zeros",
        "The loss does not depend on what is trained: gradient checkpointing over inputs that need no gradient, an "
        "output that was detached, or a loss that is not computed from this model.",
    )


def weights_stand_still(tensors: int, elements: int, steps: int, rate: float) -> Problem:
    """The problem of trained tensors that are bit for bit unchanged after `steps` steps, although gradients arrive."""
    return Problem(
        "W701",
        f"the weights never change: after {steps} steps all {tensors} trained tensors ({elements:,} parameters) are "
        f"bit for bit what they were, at a learning rate of {rate:g}",
        "Gradients arrive, but the optimizer step has no effect: a learning rate of 0, an optimizer that does not "
        "step, or updates too small for the weights' dtype.",
    )


def eval_flat(name: str, before: float, after: float, steps: int) -> Problem | None:
    """Two evaluations with enough training between them must differ in the first six decimals."""
    flat = eval_loss_flat(before, after)
    if flat is None or abs(after) < SMALLEST_LOSS:
        return None
    return Problem(
        "E803",
        f"{flat} ({name}, {steps} steps apart)",
        "The eval loss of a model that learns changes. Nothing trains, or the evaluation uses another model.",
    )


def rows_without_labels(rows: int, masked: int) -> str:
    """The warning about rows without labels while other rows train. This is no reason to stop the run."""
    return (
        f"{masked} of {rows} checked rows have no label to predict: every label is -100, except perhaps the first. "
        "These rows take time and train nothing; check the maximum length and the mask."
    )


def never_trained(idle: Sequence[str], tensors: int, looks: int) -> str:
    """The warning about tensors without gradients while others train: idle experts, or layers cut off from the loss."""
    return (
        f"{len(idle)} of {tensors} trained tensors received no gradient other than zero in {looks} checked steps: "
        f"{_named(idle)}. Experts may be idle. Other layers are cut off from the loss, for example by gradient "
        "checkpointing over inputs that need no gradient."
    )


def _last(looks: Sequence[Look], trait: Callable[[Look], bool]) -> list[Look]:
    """The longest run of looks at the end that all have this trait."""
    return list(takewhile(trait, reversed(looks)))[::-1]


def _steps(looks: Sequence[Look]) -> str:
    first, last = looks[0].step, looks[-1].step
    return f"step {first}" if first == last else f"steps {first} to {last}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
