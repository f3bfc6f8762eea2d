"""Opinions on a training run that is under way: what was seen of it -> a problem, or None. Standard library only.

A run that is stopped wrongly costs its user more than one that is stopped three steps late. Every rule therefore says
over how many steps it judges, and what it lets pass because healthy runs do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

from finetune_compat.checks.codes import CODES
from finetune_compat.checks.rules import eval_loss_flat
from finetune_compat.contract.records import Area, Census, Optimizer

FEWEST_ROWS = 8
"""Rows in sequence that must be masked before the data are called empty: with one row a step, three are bad luck."""

SCALER_SKIPS = 20
"""Steps in sequence a gradient scaler may skip. It starts at 2**16 and halves; 16 skips bring it to 1."""

SMALLEST_LOSS = 1e-4
"""Eval losses below it have too few digits before the sixth decimal to be called flat: a model may know its data by
heart.
"""

LOOKS_AT_EACH = 10
"""Looks before a word is said of tensors that were idle in all of them while others trained."""

NAMED = 3
"""Parameters a message names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a run learns nothing."""

    code: str
    what: str
    """What was seen of this run."""
    meaning: str
    """What that usually means."""

    @property
    def todo(self) -> str:
        """What to do next."""
        return CODES[self.code].advice


@dataclass(frozen=True, slots=True)
class Look:
    """What one optimizer step showed, over all its micro-batches and before gradients were clipped."""

    step: int
    tensors: int
    """Tensors the optimizer trains; 0 where gradients cannot be seen."""
    silent: tuple[str, ...]
    """Names of those that received no gradient in this step."""
    zero: tuple[str, ...]
    """Names of those that received one that is exactly zero."""
    non_finite: tuple[str, ...]
    """Names of those that received NaN or an infinity."""
    rows: int
    """Rows with a label per token; 0 where the model was not given such labels."""
    masked: int
    """Rows with no label to predict: all are -100, but perhaps for the first of a row, which nothing predicts."""

    @property
    def dead(self) -> bool:
        """Whether no tensor received anything but zeros. One silent tensor proves nothing: an expert may be idle."""
        return self.tensors > 0 and len(self.silent) + len(self.zero) == self.tensors

    @property
    def empty(self) -> bool:
        """Whether no row had anything to learn."""
        return 0 < self.rows == self.masked

    @property
    def suspicious(self) -> bool:
        """Whether the next step must be looked at too."""
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
    """The optimizer must hold every trainable parameter. What else it holds does no harm.

    Args:
        held: what it holds, in elements.
        missing: names of the trainable tensors it does not hold.
        trainable: trainable elements.
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
        "What the optimizer does not hold never changes, however alive loss and gradients look. It was made before "
        "these parameters became trainable, or for another model.",
    )


def labels_masked(looks: Sequence[Look], patience: int, *, scaled: bool) -> Problem | None:
    """Rows must have something to learn. Fewer than `patience` steps in sequence, or `FEWEST_ROWS` rows, may have none:
    unless that has made the gradient NaN, and no scaler keeps it from the weights.
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
        "All labels are -100, but perhaps for the first of a row; a loss over none is 0 or NaN. Truncation cut the "
        "answers off, the mask (completions only, assistant only) kept nothing, or the tokenizer found no tokens.",
    )


def gradients_not_finite(looks: Sequence[Look], *, scaled: bool) -> Problem | None:
    """Gradients must be finite; with a gradient scaler, which skips such steps, all but a few times in sequence."""
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
            "The scaler lowers its scale and it does not help."
            if scaled
            else "The optimizer has put them into weights: start again from the last checkpoint."
        )
        + (hint if last.masked else ""),
    )


def no_gradient(looks: Sequence[Look], patience: int, *, rewarded: bool) -> Problem | None:
    """Some tensor must receive a gradient other than zero within `patience` steps.

    Over all tensors, because single ones are idle in healthy runs: `lora_A` at step 1, where `lora_B` is zero; an
    expert no token went to. Steps without a label to predict have none to give. Where rewards make the gradient,
    `looks` are of steps whose rewards differ: else it is zero by definition.
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
    """All trained tensors are bit for bit what they were `steps` steps ago, although gradients arrived."""
    return Problem(
        "W701",
        f"the weights never change: after {steps} steps all {tensors} trained tensors ({elements:,} parameters) are "
        f"bit for bit what they were, at a learning rate of {rate:g}",
        "Gradients arrive, so it is the step that has no effect: a learning rate of 0, an optimizer that does not "
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
        "A model that learns moves its loss. Nothing trains, or the evaluation does not look at the model that does.",
    )


def rows_without_labels(rows: int, masked: int) -> str:
    """Some rows are wasted while others train: worth a word, and no reason to stop."""
    return (
        f"{masked} of {rows} rows looked at have no label to predict: every one is -100, but perhaps for the first. "
        "They take time and train nothing; look at the maximum length and at what the mask keeps."
    )


def never_trained(idle: Sequence[str], tensors: int, looks: int) -> str:
    """Some tensors stand still while others train: an expert nobody asked for, or a part of the model cut off."""
    return (
        f"{len(idle)} of {tensors} trained tensors received no gradient but zeros in any of {looks} steps looked at: "
        f"{_named(idle)}. Experts may be idle; other layers are cut off from the loss, as by gradient checkpointing "
        "over inputs that need no gradient."
    )


def _last(looks: Sequence[Look], trait: Callable[[Look], bool]) -> list[Look]:
    """The looks at the end that all have this trait."""
    return list(takewhile(trait, reversed(looks)))[::-1]


def _steps(looks: Sequence[Look]) -> str:
    first, last = looks[0].step, looks[-1].step
    return f"step {first}" if first == last else f"steps {first} to {last}"


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
