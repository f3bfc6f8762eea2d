"""What training did: labels, optimizer, learning rate, gradients, weights."""

from __future__ import annotations

import math

from harness.catalog import BATCH_ROWS
from harness.checks.case import Case, NotApplicable
from harness.records import ParameterClass, Training


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
    if labels.all_masked or not labels.samples:
        return f"{labels.all_masked} of {labels.samples} rows have nothing to learn (every label is -100)"
    allowed = tuple(tokens * labels.samples for tokens in case.flow.row_labels)
    # How many tokens a real tokenizer makes of a word is its own affair.
    if case.seen.model is not None and labels.label_tokens not in allowed:
        per_row = " or ".join(f"{tokens}" for tokens in case.flow.row_labels)
        return f"{labels.label_tokens:,} label tokens in {labels.samples} rows that have {per_row} each"
    training = case.seen.training
    if training is not None and labels.samples != len(training.grad_norm) * BATCH_ROWS:
        return f"{labels.samples} rows were trained on in {len(training.grad_norm)} steps of {BATCH_ROWS}"
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
    held = case.training.optimizer
    if held.parameters and not held.missing and not held.extra:
        return None
    return (
        f"the optimizer holds {held.parameters:,} parameters; "
        f"{held.missing:,} trainable ones are missing from it and {held.extra:,} in it are not trainable"
    )


def learning_rate_as_asked(case: Case) -> str | None:
    """The optimizer's learning rate before each step is the schedule that was asked for."""
    training = case.training
    asked, seen = training.learning_rate_asked, training.learning_rate
    if not training.rates_agree:
        return f"the optimizer's groups have different learning rates; the first had {_rates(seen)}"
    # The schedule is computed in double precision on both sides; only rounding may differ.
    if len(asked) == len(seen) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(asked, seen, strict=True)):
        return None
    return f"learning rate was {_rates(seen)}, asked for {_rates(asked)}"


def _rates(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in rates) or "never set"


def gradients_arrive(case: Case) -> str | None:
    """Every trainable tensor receives gradients that are finite and not zero, at the step where it must: the first, and
    for a `lora_A` behind a `lora_B` of zeros the second.
    """
    training = case.training
    grads = training.gradients
    # Where no weight ever moved, lora_B stays zero and with it the gradient of lora_A: that is for W701 to say.
    zero = 0 if training.subject_delta == 0 and grads.zero < grads.tensors else grads.zero
    if not grads.tensors or grads.silent or zero or grads.non_finite:
        return (
            f"of {grads.tensors} trainable tensors {grads.silent} never received a gradient, {grads.zero} only zeros, "
            f"{grads.non_finite} a non-finite one{_classes_cut_off(training)}"
        )
    late = [f"{name} at step {seen.reached}" for name, seen in training.classes.items() if _late(name, seen)]
    return f"the first gradient other than zero came late: {', '.join(late)}" if late else None


def _classes_cut_off(training: Training) -> str:
    """The classes that were not reached and stood still as a whole, where others were."""
    cut = sorted(n for n, seen in training.classes.items() if seen.reached is None and seen.unchanged == seen.tensors)
    return f": {', '.join(cut)}" if cut and len(cut) < len(training.classes) else ""


def _late(name: str, seen: ParameterClass) -> bool:
    return seen.reached is not None and seen.reached > (2 if name.endswith("lora_A") else 1)


def weights_change(case: Case) -> str | None:
    """Every class of what the flow trains really changes, in every tensor, and stays finite."""
    training = case.training
    if not training.subject_finite:
        return "some trained weights are NaN or infinite after training"
    if training.subject_delta == 0:
        return "no trained weight changed at all"
    still = [f"{c.unchanged} of {c.tensors} {name}" for name, c in training.classes.items() if c.unchanged]
    return f"while others changed, these tensors stood still: {', '.join(still)}" if still else None


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
