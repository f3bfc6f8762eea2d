"""What training did: labels, optimizer, learning rate, gradients, weights."""

from __future__ import annotations

import math

from finetune_compat.checks import rules
from finetune_compat.checks.case import NOT_RECORDED, Case, ended_in
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.contract.catalog import ACCUMULATED_ROWS, BATCH_ROWS
from finetune_compat.contract.records import Stage, StepPair, Training

EXACT_STEP = 1e-3
"""Share of a float32 gradient by which two ways of one step may differ. 2e-7 was measured on a CPU; a GPU may round
products of float32 to 10 bits.
"""

ROUNDED_STEP = 2e-2
"""The same for adapters in bfloat16, in which the one way adds up four gradients of 8 bits and the other rounds one
sum: 4e-3 was measured.
"""

LOSS_TOLERANCE = 1e-3
"""Relative difference of two reported losses. Releases before 5.0 round them to four decimals."""


def runs_to_its_end(case: Case) -> str | None:
    """The flow ends without an error and with all its steps run, or with an error that says what to change."""
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
    """Every row trained on has something to learn."""
    labels = case.seen.labels
    if labels is None and case.seen.training is None:
        raise NotApplicable("training did not finish")
    if labels is None:
        return "training ran and no batch had labels"
    if masked := rules.labels_masked(labels.samples, labels.all_masked):
        return masked
    allowed = tuple(tokens * labels.samples for tokens in case.flow.row_labels)
    # How many tokens a real tokenizer makes of a word is its own affair.
    if case.seen.model is not None and labels.label_tokens not in allowed:
        per_row = " or ".join(f"{tokens}" for tokens in case.flow.row_labels)
        return f"{labels.label_tokens:,} label tokens in {labels.samples} rows that have {per_row} each"
    training = case.seen.training
    rows = BATCH_ROWS * case.rules.sequences
    if training is not None and labels.samples != len(training.grad_norm) * rows:
        return f"{labels.samples} rows were trained on in {len(training.grad_norm)} steps of {rows}"
    return None


def ends_are_labels(case: Case) -> str | None:
    """Where a row ends with an end-of-sequence token, the model learns it."""
    labels = case.seen.labels
    if labels is None or not labels.ends:
        raise NotApplicable("no row had an end-of-sequence token")
    if not labels.ends_masked:
        return None
    return f"the end of {labels.ends_masked} of {labels.ends} rows is no label: the model never learns to stop"


def optimizer_holds_what_is_trainable(case: Case) -> str | None:
    """The optimizer holds exactly the trainable parameters, and some."""
    return rules.optimizer_wrong(case.training.optimizer)


def learning_rate_as_asked(case: Case) -> str | None:
    """The optimizer's learning rate before each step is the schedule that was asked for."""
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
    """Every trainable tensor receives gradients that are finite and not zero, at the step where it must."""
    if (wrong := rules.gradients_missing(case.training)) or case.training.classes:
        return wrong
    raise NotApplicable(_before("gradients were followed by class of tensors"))


def gradient_norm_finite(case: Case) -> str | None:
    """The norm of the whole gradient, as measured at the tensors and as the trainer logs it, is a number and not always
    zero.
    """
    training = case.training
    logged = training.grad_norm_logged
    wrong = rules.gradient_norm_wrong("the norm measured at the tensors", training.grad_norm)
    wrong = wrong or rules.gradient_norm_wrong("the logged gradient norm", logged or ())
    if wrong or logged is not None:
        return wrong
    raise NotApplicable(_before("the trainer's own log of it was read"))


def gradients_arrive_to_the_end(case: Case) -> str | None:
    """Gradients other than zero go on arriving at every trainable tensor up to the last step."""
    if (wrong := rules.gradients_ended(case.training)) or rules.gradients_followed(case.training):
        return wrong
    raise NotApplicable(_before("the last step with a gradient was measured"))


def weights_change(case: Case) -> str | None:
    """Every class of what the flow trains really changes, in every tensor, and stays finite."""
    if (wrong := rules.weights_stand_still(case.training)) or case.training.classes:
        return wrong
    raise NotApplicable(_before("weights were compared by class of tensors"))


def weights_change_to_the_end(case: Case) -> str | None:
    """Every tensor of what the flow trains goes on changing up to the last step."""
    if _rounds_small_steps(case):
        raise NotApplicable("the last steps may be less than the weights' dtype can tell")
    if (wrong := rules.weights_stopped(case.training)) or rules.weights_followed(case.training):
        return wrong
    raise NotApplicable(_before("the last step that changed a weight was measured"))


def training_loss_is_a_number(case: Case) -> str | None:
    """The training loss that the trainer logs is a number at every step, and not zero at all of them."""
    losses = case.training.loss
    if not losses:
        raise NotApplicable("the trainer logged no training loss")
    return rules.loss_wrong(losses)


def _before(measured: str) -> str:
    return f"{NOT_RECORDED}{measured}"


def _rounds_small_steps(case: Case) -> bool:
    """Whether the last step, at a tenth of a rate that users take, may be less than the weights' dtype can tell."""
    census = case.seen.census(Stage.TRAINER)
    if case.seen.model is not None or census is None:
        return False  # tiny models are trained at rates that bfloat16 does not round away
    return (census.adapter_dtypes or tuple(census.dtypes)) != ("float32",)


def frozen_weights_stay(case: Case) -> str | None:
    """What was not trainable when training began is bit for bit what it was."""
    frozen = case.training.frozen
    if frozen is None:
        raise NotApplicable("frozen weights were not compared")
    if not frozen.changed:
        return None
    return f"{frozen.changed} of {frozen.tensors} frozen tensors changed in training: {', '.join(frozen.examples)}"


def memory_is_given_back(case: Case) -> str | None:
    """When all of the flow has been dropped, the tensors of before are alive, and no others."""
    memory = case.seen.memory
    if memory is None:
        raise NotApplicable("memory was not measured")
    if memory.end_bytes == memory.start_bytes:
        return None
    return (
        f"{memory.end_bytes:,} bytes of tensors are alive when the flow is gone, {memory.start_bytes:,} were before it "
        f"(peak {memory.peak_bytes:,})"
    )


def accumulation_changes_nothing(case: Case) -> str | None:
    """The gradient and the reported loss of one step are the same for 4 rows at once and for 4 rows one by one."""
    deep = case.deep
    if "accumulation" in deep.failures:
        return ended_in(deep.failures["accumulation"], "accumulation")
    return _apart(case, deep.accumulation, f"{ACCUMULATED_ROWS} rows at once", f"{ACCUMULATED_ROWS} rows one by one")


def checkpointing_changes_nothing(case: Case) -> str | None:
    """The gradient and the reported loss of one step are the same without gradient checkpointing and with it."""
    deep = case.deep
    if "checkpointing" in deep.failures:
        return ended_in(deep.failures["checkpointing"], "checkpointing")
    return _apart(case, deep.checkpointing, "no checkpointing", "checkpointing")


def _apart(case: Case, pair: StepPair | None, one: str, other: str) -> str | None:
    if pair is None:
        raise NotApplicable("the step was not computed in both ways")
    if not pair.same_labels:
        return f"{one} and {other} were not given the same rows and labels"
    census = case.census(Stage.TRAINER)
    rounded = census is not None and census.adapter_dtypes == ("bfloat16",)
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
