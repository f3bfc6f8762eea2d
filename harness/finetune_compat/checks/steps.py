"""The checks of the training steps: labels, optimizer, learning rate, gradients, weights."""

from __future__ import annotations

import dataclasses
import math

from finetune_compat.checks import rules
from finetune_compat.checks.case import NOT_RECORDED, Case, ended_in
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.catalog import ACCUMULATED_ROWS, BATCH_ROWS, Subject
from finetune_compat.contract.records import Stage, StepPair, Training

EXACT_STEP = 1e-3
"""Share of a float32 gradient by which two ways to compute one step may differ. Measured on a CPU: 2e-7. A GPU may
round float32 products to 10 bits.
"""

ROUNDED_STEP = 2e-2
"""The same share for adapters in bfloat16: one way adds four gradients of 8 bits, the other rounds one sum. Measured:
4e-3.
"""

ROUNDED_CLASS = "norm"
"""Weights that start at 1. In bfloat16 the next lower value is 1 - 2^-8, so an update under 2^-9 is rounded away. The
learning rate of a whole tiny model is 2e-3 in the first step and under 2^-9 in all later ones.
"""

LOSS_TOLERANCE = 1e-3
"""Allowed relative difference of two reported losses. Transformers before 5.0 rounds them to four decimals."""


def runs_to_its_end(case: Case) -> str | None:
    """The flow runs all its steps without an error, or the trainer refuses it with a reason."""
    error, training = case.seen.error, case.seen.training
    if case.refused:
        return None
    if error is not None:
        return f"{error.type} at {error.stage}: {error.message}"
    if training is None:
        return "the flow ended without an error and without training"
    done = len(training.grad_norm)
    return None if done == training.steps else f"training ended after {done} of {training.steps} steps"


def labels_present(case: Case) -> str | None:
    """Every training row has labels, in the expected number."""
    labels = case.seen.labels
    if labels is None and case.seen.training is None:
        raise NotApplicable("training did not finish")
    if labels is None:
        return "training ran and no batch had labels"
    if masked := rules.labels_masked(labels.samples, labels.all_masked):
        return masked
    allowed = tuple(tokens * labels.samples for tokens in case.flow.row_labels)
    between = case.rules.generated and min(allowed) <= labels.label_tokens <= max(allowed)
    # The number of tokens per word is known only for the tokenizer of tiny models.
    if case.seen.model is not None and labels.label_tokens not in allowed and not between:
        per_row = (" to " if case.rules.generated else " or ").join(f"{tokens}" for tokens in case.flow.row_labels)
        return f"{labels.label_tokens:,} label tokens in {labels.samples} rows, expected {per_row} per row"
    training = case.seen.training
    rows = BATCH_ROWS * case.rules.sequences
    if training is not None and labels.samples != len(training.grad_norm) * rows:
        return f"{labels.samples} training rows in {len(training.grad_norm)} steps, expected {rows} per step"
    return None


def ends_are_labels(case: Case) -> str | None:
    """If a row ends with an end-of-sequence token, the token is a label."""
    labels = case.seen.labels
    if labels is None or not labels.ends:
        raise NotApplicable("no row had an end-of-sequence token")
    if not labels.ends_masked:
        return None
    return f"the end token of {labels.ends_masked} of {labels.ends} rows is not a label: the model never learns to stop"


def optimizer_holds_what_is_trainable(case: Case) -> str | None:
    """The optimizer holds exactly the trainable parameters, and at least one."""
    return rules.optimizer_wrong(case.training.optimizer)


def learning_rate_as_asked(case: Case) -> str | None:
    """The optimizer's learning rate before each step follows the requested schedule."""
    training = case.training
    if (wrong := _rates_wrong(training)) or training.rates_agree is not None:
        return wrong
    raise NotApplicable(_before("the learning rates of all groups of the optimizer were compared"))


def _rates_wrong(training: Training) -> str | None:
    asked, seen = training.learning_rate_asked, training.learning_rate
    if training.rates_agree is False:
        return f"the optimizer's groups have different learning rates; the first had {_rates(seen)}"
    if asked == seen:
        return None
    # The schedule is computed in double precision on both sides; only rounding may differ.
    if len(asked) == len(seen) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(asked, seen, strict=True)):
        return None
    return f"learning rate was {_rates(seen)}, asked for {_rates(asked)}"


def _rates(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in rates) or "never set"


def gradients_arrive(case: Case) -> str | None:
    """Every trainable tensor receives gradients that are finite and not zero, from its first possible step on."""
    if (wrong := rules.gradients_missing(case.training)) or case.training.classes:
        return wrong
    raise NotApplicable(_before("gradients were recorded by class of tensors"))


def gradient_norm_finite(case: Case) -> str | None:
    """The norm of the whole gradient is finite and not always zero, both as measured at the tensors and as logged by
    the trainer.
    """
    training = case.training
    logged = training.grad_norm_logged
    wrong = rules.gradient_norm_wrong("the norm measured at the tensors", training.grad_norm)
    wrong = wrong or rules.gradient_norm_wrong("the logged gradient norm", logged or ())
    if wrong or logged is not None:
        return wrong
    raise NotApplicable(_before("the trainer's own log of it was read"))


def gradients_arrive_to_the_end(case: Case) -> str | None:
    """Every trainable tensor receives gradients other than zero up to the last step."""
    if not any(seen.reached for seen in case.training.classes.values()) and case.training.classes:
        raise NotApplicable("no class of tensors received a gradient other than zero")
    if (wrong := rules.gradients_ended(case.training)) or rules.gradients_followed(case.training):
        return wrong
    raise NotApplicable(_before("the last step with a gradient was measured"))


def weights_change(case: Case) -> str | None:
    """Every trained tensor changes, and stays finite."""
    if (wrong := rules.weights_stand_still(case.training)) or case.training.classes:
        return wrong
    raise NotApplicable(_before("weights were compared by class of tensors"))


def weights_change_to_the_end(case: Case) -> str | None:
    """Every trained tensor changes up to the last step."""
    if _rounds_small_steps(case):
        raise NotApplicable("the last updates may be too small for the weights' dtype")
    if not case.training.subject_delta:
        raise NotApplicable("no trained weight changed")
    training = _without_rounded_class(case)
    if (wrong := rules.weights_stopped(training)) or rules.weights_followed(training):
        return wrong
    raise NotApplicable(_before("the last step that changed a weight was measured"))


def training_loss_is_a_number(case: Case) -> str | None:
    """The training loss that the trainer logs is finite at every step, and not zero at all of them. Only a loss of
    generated completions may be zero.
    """
    losses = case.training.loss
    if not losses:
        raise NotApplicable("the trainer logged no training loss")
    return rules.loss_wrong(losses, may_be_zero=case.rules.generated)


def _before(measured: str) -> str:
    return f"{NOT_RECORDED}{measured}"


def _rounds_small_steps(case: Case) -> bool:
    """Whether the last update, at a tenth of a typical learning rate, may be too small for the weights' dtype."""
    census = case.seen.census(Stage.TRAINER)
    if case.seen.model is not None or census is None:
        return False  # adapters of tiny models train at rates that are large enough for bfloat16
    return (census.adapter_dtypes or tuple(census.dtypes)) != ("float32",)


def _without_rounded_class(case: Case) -> Training:
    """The training, without the norms if a whole tiny model trains in bfloat16."""
    if case.flow.subject is not Subject.MODEL or not case.seen.variant.precision.bf16:
        return case.training
    classes = {name: seen for name, seen in case.training.classes.items() if name != ROUNDED_CLASS}
    return dataclasses.replace(case.training, classes=classes)


def frozen_weights_stay(case: Case) -> str | None:
    """Weights that were not trainable when training began are bit for bit unchanged."""
    frozen = case.training.frozen
    if frozen is None:
        raise NotApplicable("frozen weights were not compared")
    if not frozen.changed:
        return None
    return f"{frozen.changed} of {frozen.tensors} frozen tensors changed in training: {', '.join(frozen.examples)}"


def memory_is_given_back(case: Case) -> str | None:
    """After all objects of the flow are deleted, the same bytes of tensors are alive as before the flow."""
    memory = case.seen.memory
    if memory is None:
        raise NotApplicable("memory was not measured")
    if memory.end_bytes == memory.start_bytes:
        return None
    return (
        f"{memory.end_bytes:,} bytes of tensors are alive after the flow, {memory.start_bytes:,} before it "
        f"(peak {memory.peak_bytes:,})"
    )


def accumulation_changes_nothing(case: Case) -> str | None:
    """The gradient and the reported loss of one step are the same for 4 rows at once and one by one."""
    deep = case.deep
    if "accumulation" in deep.failures:
        return ended_in(deep.failures["accumulation"], "accumulation")
    return _apart(case, deep.accumulation, f"{ACCUMULATED_ROWS} rows at once", f"{ACCUMULATED_ROWS} rows one by one")


def checkpointing_changes_nothing(case: Case) -> str | None:
    """The gradient and the reported loss of one step are the same with and without gradient checkpointing."""
    deep = case.deep
    if "checkpointing" in deep.failures:
        return ended_in(deep.failures["checkpointing"], "checkpointing")
    return _apart(case, deep.checkpointing, "no checkpointing", "checkpointing")


def _apart(case: Case, pair: StepPair | None, one: str, other: str) -> str | None:
    if pair is None:
        raise NotApplicable("the step was not computed in both ways")
    if not pair.same_labels:
        return f"{one} and {other} were not given the same rows and labels"
    if not pair.classes:
        raise NotApplicable("the step has no gradient")
    census = case.census(Stage.TRAINER)
    rounded = census is not None and "bfloat16" in census.adapter_dtypes
    off = [
        f"gradient of {name} off by {seen.relative:.1%} (norms {seen.one:.4g} and {seen.other:.4g})"
        for name, seen in pair.classes.items()
        if seen.relative > (ROUNDED_STEP if rounded else EXACT_STEP)
    ]
    off += _losses_apart(pair)
    return f"{one} and {other} give different steps: {', '.join(off)}" if off else None


def _losses_apart(pair: StepPair) -> list[str]:
    one, other = pair.loss_one, pair.loss_other
    if one is None or other is None or math.isclose(one, other, rel_tol=LOSS_TOLERANCE):
        return []
    return [f"reported loss {one:.4f} and {other:.4f}"]
