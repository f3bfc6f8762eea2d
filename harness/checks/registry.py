"""The checks: each a code, a claim, what it presupposes, advice, and one function.

A check function returns None where the claim holds, a message where it does not, and raises `NotApplicable` where the
observation has nothing to hold it against. A flow that ends in an error leaves later checks without data; F001 speaks
for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness import counts
from harness.catalog import BATCH_ROWS, MAY_DROP, ROW_WORDS, Expect
from harness.checks import rules
from harness.checks.case import MINIMUM_FALL, Case, freeze_line, symptom
from harness.checks.verdict import Symptom
from harness.records import Absence, Area, Census, Stage, Training


class NotApplicable(Exception):
    """The observation has nothing this check could be held against; the message says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about a healthy observation."""

    code: str
    title: str
    requires: tuple[str, ...]
    """Codes of checks whose failure already explains a failure of this one."""
    advice: str
    run: Callable[[Case], str | None]


def _training(case: Case) -> Training:
    if case.seen.training is None:
        raise NotApplicable("training did not finish")
    return case.seen.training


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


def _census_check(stage: Stage) -> Callable[[Case], str | None]:
    def run(case: Case) -> str | None:
        expect = case.flow.expects.get(stage)
        if expect is None:
            raise NotApplicable("the flow promises nothing here")
        if case.refused and stage not in (Stage.LOAD, Stage.PREPARE):
            raise NotApplicable("the trainer refused")
        census = case.seen.census(stage)
        if census is None:
            return _without_census(case, stage)
        allowed = case.expected(expect)
        if expect is Expect.ADAPTER and _others_train(census) > 0:
            return f"{_others_train(census):,} parameters outside the adapters are trainable at {stage}"
        if census.trainable in allowed:
            return None
        wanted = " or ".join(f"{count:,}" for count in sorted(allowed))
        blame = "".join(f"; frozen by {freeze_line(freeze)}" for freeze in case.seen.freezes)
        return f"{census.trainable:,} trainable at {stage}, expected {wanted} ({expect}){blame}"

    return run


def _others_train(census: Census) -> int:
    """Trainable elements outside the adapters."""
    adapters = census.by_area.get(Area.ADAPTER)
    return census.trainable - (adapters.trainable if adapters else 0)


def _without_census(case: Case, stage: Stage) -> str:
    """A census may be absent behind an error, and where a step is the library's or the precision's choice to take."""
    reason = case.absence(stage)
    optional = stage in (Stage.PREPARE, Stage.PEFT) and reason is Absence.NOT_CALLED
    own = case.flow.handed_over and (stage is Stage.PEFT or case.seen.variant.precision.quantized)
    if (optional and not own) or (reason is Absence.NOT_REACHED and case.seen.error is not None):
        raise NotApplicable(f"no census at {stage}: {reason}")
    return f"no census at {stage}, and no good reason for its absence ({reason or 'none recorded'})"


def totals_follow_from_the_config(case: Case) -> str | None:
    """Stored and logical totals at the trainer equal the closed form: base plus adapters, nothing else."""
    census = case.seen.census(Stage.TRAINER)
    if census is None:
        raise NotApplicable("no census at trainer")
    model, precision = case.seen.model, case.seen.variant.precision
    logical = counts.base_logical(model) + case.adapter
    stored = counts.base_stored(model, precision) + case.adapter
    if (census.total_logical, census.total) == (logical, stored):
        return None
    return (
        f"{census.total_logical:,} logical and {census.total:,} stored parameters, expected {logical:,} and {stored:,}"
    )


def adapters_sit_where_the_targets_are(case: Case) -> str | None:
    """In each part of the model there are as many adapter parameters as its matched layers call for, and no others."""
    census = case.seen.census(Stage.TRAINER)
    if census is None or case.seen.lora is None:
        raise NotApplicable("no adapters, or no census at trainer")
    seen = {area: count.total for area, count in census.adapters_on.items() if count.total}
    wanted = dict(case.adapters_on)
    return None if seen == wanted else f"adapters sit on {_areas(seen)}, expected {_areas(wanted)}"


def _areas(counts_by_area: Mapping[Area, int]) -> str:
    return ", ".join(f"{area} {count:,}" for area, count in sorted(counts_by_area.items())) or "nothing"


def attention_as_asked(case: Case) -> str | None:
    """The model uses the attention implementation it was loaded with."""
    attention = case.seen.attention
    if attention is None or attention.used is None:
        raise NotApplicable("the model was not loaded, or does not say")
    if attention.used == attention.asked:
        return None
    return f"asked for {attention.asked} attention, the model uses {attention.used}"


def adapter_kept(case: Case) -> str | None:
    """An adapter handed to the trainer comes out of its constructor with the values it had."""
    if not case.flow.handed_over:
        raise NotApplicable("the trainer makes the adapter itself")
    given, kept = case.seen.census(Stage.PEFT), case.seen.census(Stage.TRAINER)
    if given is None or kept is None:
        raise NotApplicable("no census at peft or trainer")
    if given.subject_sha256 is None:
        return "no digest of the adapter handed over"
    if given.subject_sha256 == kept.subject_sha256:
        return None
    return "the adapter handed over was replaced: its values differ between peft and trainer"


def reloaded_is_what_was_trained(case: Case) -> str | None:
    """What is saved and loaded again has the values that training ended with."""
    trained, reloaded = case.seen.census(Stage.AFTER_TRAINING), case.seen.census(Stage.RELOAD)
    if trained is None or reloaded is None:
        raise NotApplicable("no census after training or at reload")
    if trained.subject_sha256 is None:
        return "no digest of what was trained"
    if trained.subject_sha256 == reloaded.subject_sha256:
        return None
    return "the values loaded again are not those training ended with"


def optimizer_holds_what_is_trainable(case: Case) -> str | None:
    """The optimizer holds exactly the trainable parameters, and some."""
    return rules.optimizer_wrong(_training(case).optimizer)


def gradients_arrive(case: Case) -> str | None:
    """Every trainable tensor receives a gradient that is finite, and not always exactly zero."""
    return rules.gradients_missing(_training(case))


def labels_present(case: Case) -> str | None:
    """Every row trained on has something to learn."""
    labels = case.seen.labels
    if labels is None and case.seen.training is None:
        raise NotApplicable("training did not finish")
    if labels is None:
        return "training ran and no batch had labels"
    if masked := rules.labels_masked(labels):
        return masked
    # Every word of a row is a label; releases differ in whether they append an end token.
    allowed = (ROW_WORDS * labels.samples, (ROW_WORDS + 1) * labels.samples)
    if labels.label_tokens not in allowed:
        return f"{labels.label_tokens:,} label tokens in {labels.samples} rows of {ROW_WORDS} words"
    training = case.seen.training
    if training is not None and labels.samples != len(training.grad_norm) * BATCH_ROWS:
        return f"{labels.samples} rows were trained on in {len(training.grad_norm)} steps of {BATCH_ROWS}"
    return None


def options_accepted(case: Case) -> str | None:
    """Every option the flow sets is known to the installed version, under one name or another."""
    lost = [option for option in case.seen.options_dropped if option not in MAY_DROP]
    return f"no name of this version accepts {', '.join(lost)}: the cell is not the one it is called" if lost else None


def learning_rate_as_asked(case: Case) -> str | None:
    """The optimizer's learning rate before each step is the schedule that was asked for."""
    training = _training(case)
    asked, seen = training.learning_rate_asked, training.learning_rate
    # The schedule is computed in double precision on both sides; only rounding may differ.
    if len(asked) == len(seen) and all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(asked, seen, strict=True)):
        return None
    return f"learning rate was {_rates(seen)}, asked for {_rates(asked)}"


def _rates(rates: tuple[float, ...]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in rates) or "never set"


def weights_change(case: Case) -> str | None:
    """What the flow trains really changes, and stays finite."""
    return rules.weights_stand_still(_training(case))


def eval_loss_present(case: Case) -> str | None:
    """`evaluate()` reports a finite eval_loss before and after training."""
    return rules.eval_loss_missing(_training(case))


def eval_loss_falls(case: Case) -> str | None:
    """Eval loss on held-out rows falls by more than a healthy run can miss."""
    training = _training(case)
    before, after = training.eval_before, training.eval_after
    if before is None or after is None or symptom(case.seen) is Symptom.FALLS:
        return None
    if flat := rules.eval_loss_flat(before, after):
        return flat
    if after > before:
        return f"eval loss rises: {before:.6f} -> {after:.6f}"
    return f"eval loss {before:.6f} -> {after:.6f}: a fall of {before - after:.4f}, under {MINIMUM_FALL:.0%} of it"


_FROZEN_ADVICE = (
    "Look at the freeze line. Hand the base model and peft_config to the trainer instead of a PeftModel, "
    "or move to a release outside the listed window."
)

CHECKS: tuple[Check, ...] = (
    Check(
        "P101",
        "Every option is accepted",
        (),
        "Find the option's new name and add it to harness/cell/adapt.py.",
        options_accepted,
    ),
    Check(
        "P102",
        "The attention asked for is used",
        (),
        "Look at attn_implementation, and at what the model class supports.",
        attention_as_asked,
    ),
    Check(
        "C101",
        "Load leaves trainable exactly what is not quantized",
        (),
        "Look at the quantization config.",
        _census_check(Stage.LOAD),
    ),
    Check(
        "C102",
        "Preparation freezes every parameter",
        (),
        "Look at prepare_model_for_kbit_training.",
        _census_check(Stage.PREPARE),
    ),
    Check(
        "C103",
        "Wrapping leaves exactly the adapters trainable",
        (),
        "Look at inference_mode and is_trainable.",
        _census_check(Stage.PEFT),
    ),
    Check(
        "C104",
        "The trainer leaves trainable what it was given",
        ("C103",),
        _FROZEN_ADVICE,
        _census_check(Stage.TRAINER),
    ),
    Check(
        "C105",
        "Training leaves trainable what it was given",
        ("C104",),
        _FROZEN_ADVICE,
        _census_check(Stage.AFTER_TRAINING),
    ),
    Check(
        "C106",
        "A reload asked to be trainable is trainable",
        (),
        "Look at is_trainable and inference_mode.",
        _census_check(Stage.RELOAD),
    ),
    Check(
        "C110",
        "Totals follow from the config",
        (),
        "The model is not what its config says.",
        totals_follow_from_the_config,
    ),
    Check(
        "C120",
        "Adapters sit where the targets are",
        (),
        "Compare the matched modules with target_modules: a name may exist in another part of the model, or no more.",
        adapters_sit_where_the_targets_are,
    ),
    Check(
        "F001",
        "The flow runs to its end",
        ("C103", "C104"),
        "Read the error and the library frame that raised it.",
        runs_to_its_end,
    ),
    Check(
        "A201",
        "The trainer keeps the adapter it was given",
        (),
        "Do not pass peft_config along with a PeftModel.",
        adapter_kept,
    ),
    Check(
        "A202",
        "A reload gives what was trained",
        ("C105",),
        "Compare the saved keys with the model's.",
        reloaded_is_what_was_trained,
    ),
    Check("L501", "Every row has labels", (), "Look at the collator, the mask and the maximum length.", labels_present),
    Check(
        "O301",
        "The optimizer holds exactly what is trainable",
        ("C104",),
        "Something flipped requires_grad after or before the optimizer was built.",
        optimizer_holds_what_is_trainable,
    ),
    Check(
        "R601",
        "The learning rate follows the schedule",
        ("O301",),
        "Look at the scheduler's arguments.",
        learning_rate_as_asked,
    ),
    Check(
        "G401",
        "Gradients arrive",
        ("O301", "L501"),
        "Look at gradient checkpointing and enable_input_require_grads().",
        gradients_arrive,
    ),
    Check(
        "W701",
        "Trained weights change",
        ("O301", "G401", "R601"),
        "Optimizer and gradients are fine, so look at the step itself.",
        weights_change,
    ),
    Check(
        "E801",
        "Eval loss is reported",
        ("L501", "W701"),
        "Look at label_names and the evaluation's columns.",
        eval_loss_present,
    ),
    Check(
        "E802",
        "Eval loss falls",
        ("W701", "E801"),
        "Everything moves but nothing is learned: look at gradients and labels.",
        eval_loss_falls,
    ),
)
"""All checks, presupposed ones first."""
