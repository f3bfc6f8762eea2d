"""The checks: each a code, a claim, what it presupposes, advice, and one function.

A check function returns None where the claim holds, a message where it does not, and raises `NotApplicable` where the
observation has nothing to hold it against. A flow that ends in an error leaves later checks without data; F001 speaks
for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finetune_compat.checks import learning, stages, steps
from finetune_compat.checks.case import Case
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.records import Stage


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about a healthy observation."""

    code: str
    title: str
    requires: tuple[str, ...]
    """Codes of checks whose failure already explains a failure of this one."""
    advice: str
    run: Callable[[Case], str | None]
    tier: Tier = Tier.QUICK
    """Which tier measures what it looks at."""


_FROZEN_ADVICE = (
    "Look at the freeze line. Hand the base model and peft_config to the trainer instead of a PeftModel, "
    "or move to a release outside the listed window."
)

CHECKS: tuple[Check, ...] = (
    Check(
        "P101",
        "Every option is accepted",
        (),
        "Find the option's new name and add it to harness/finetune_compat/cell/adapt.py, or to the objective's module.",
        stages.options_accepted,
    ),
    Check(
        "P102",
        "The attention asked for is used",
        (),
        "Look at attn_implementation, and at what the model class supports.",
        stages.attention_as_asked,
    ),
    Check(
        "D801",
        "Weights have the dtype asked for",
        (),
        "Look at dtype (torch_dtype before Transformers 4.56) and at the quantization config.",
        stages.weights_have_the_dtype_asked_for,
    ),
    Check(
        "C101",
        "Load leaves trainable exactly what is not quantized",
        (),
        "Look at the quantization config.",
        stages.census_check(Stage.LOAD),
    ),
    Check(
        "C102",
        "Preparation freezes every parameter",
        (),
        "Look at prepare_model_for_kbit_training.",
        stages.census_check(Stage.PREPARE),
    ),
    Check(
        "C120",
        "Adapters sit where the targets are",
        (),
        "Compare the matched modules with target_modules: a name may exist in another part of the model, or no more.",
        stages.adapters_sit_where_the_targets_are,
    ),
    Check(
        "C103",
        "Wrapping leaves exactly the adapters trainable",
        ("C120",),
        "Look at inference_mode and is_trainable.",
        stages.census_check(Stage.PEFT),
    ),
    Check(
        "C104",
        "The trainer leaves trainable what it was given",
        ("C103", "C120"),
        _FROZEN_ADVICE,
        stages.census_check(Stage.TRAINER),
    ),
    Check(
        "C105",
        "Training leaves trainable what it was given",
        ("C104",),
        _FROZEN_ADVICE,
        stages.census_check(Stage.AFTER_TRAINING),
    ),
    Check(
        "C106",
        "A reload asked to be trainable is trainable",
        ("C120",),
        "Look at is_trainable and inference_mode.",
        stages.census_check(Stage.RELOAD),
    ),
    Check(
        "C110",
        "Totals follow from the config",
        ("C120",),
        "The model is not what its config says.",
        stages.totals_follow_from_the_config,
    ),
    Check(
        "D802",
        "Adapters keep one dtype",
        (),
        "Look at autocast_adapter_dtype, and at what the trainer casts.",
        stages.adapters_keep_one_dtype,
    ),
    Check(
        "F001",
        "The flow runs to its end",
        ("C103", "C104"),
        "Read the error and the library frame that raised it.",
        steps.runs_to_its_end,
    ),
    Check(
        "A201",
        "The trainer keeps the adapter it was given",
        (),
        "Do not pass peft_config along with a PeftModel.",
        stages.adapter_kept,
    ),
    Check(
        "A202",
        "A reload gives what was trained",
        ("C105",),
        "Compare the saved keys with the model's.",
        stages.reloaded_is_what_was_trained,
    ),
    Check(
        "L501",
        "Every row has labels",
        (),
        "Look at the collator, the mask and the maximum length.",
        steps.labels_present,
    ),
    Check(
        "L502",
        "The end of a row is a label",
        ("L501",),
        "The pad token is probably the end token: give the tokenizer a pad token of its own.",
        steps.ends_are_labels,
    ),
    Check(
        "O301",
        "The optimizer holds exactly what is trainable",
        ("C104",),
        "Something flipped requires_grad after or before the optimizer was built.",
        steps.optimizer_holds_what_is_trainable,
    ),
    Check(
        "R601",
        "The learning rate follows the schedule",
        ("O301",),
        "Look at the scheduler's arguments.",
        steps.learning_rate_as_asked,
    ),
    Check(
        "G401",
        "Gradients arrive",
        ("O301", "L501"),
        "Look at gradient checkpointing and enable_input_require_grads().",
        steps.gradients_arrive,
    ),
    Check(
        "W701",
        "Trained weights change",
        ("O301", "G401", "R601"),
        "Optimizer and gradients are fine, so look at the step itself.",
        steps.weights_change,
    ),
    Check(
        "W702",
        "Frozen weights stay",
        ("C104",),
        "Something writes to the base model: a merge, a cast in place, or an optimizer that holds what it should not.",
        steps.frozen_weights_stay,
    ),
    Check(
        "A204",
        "The adapter has an effect",
        ("C104", "W701"),
        "The adapters are disabled, merged, or not on the path the model takes.",
        stages.adapter_has_effect,
    ),
    Check(
        "A203",
        "A reload answers like what was trained",
        ("A201", "A202", "A204", "W702"),
        "The saved configuration is another one (alpha, targets), or the base model is.",
        stages.reload_answers_alike,
    ),
    Check(
        "E801",
        "Eval loss is reported",
        ("L501", "W701"),
        "Look at label_names and the evaluation's columns.",
        learning.eval_loss_present,
    ),
    Check(
        "E806",
        "Eval loss is plausible before training",
        ("E801",),
        "It is not computed from what this model says of these rows: look at what the evaluation reports.",
        learning.eval_loss_plausible,
    ),
    Check(
        "E802",
        "Eval loss falls",
        ("W701", "E801"),
        "Everything moves but nothing is learned: look at gradients and labels.",
        learning.eval_loss_falls,
    ),
    Check(
        "G402",
        "Gradient accumulation changes nothing",
        ("C104", "G401"),
        "Train without accumulation, or divide the learning rate by the factor. Trainer divides the loss itself, "
        "leaves it to Accelerate, or does neither; which one depends on the release of both.",
        steps.accumulation_changes_nothing,
        Tier.DEEP,
    ),
    Check(
        "G403",
        "Gradient checkpointing changes nothing",
        ("C104", "G401"),
        "Look at use_reentrant, and at whether hooks are applied in the forward that is computed again.",
        steps.checkpointing_changes_nothing,
        Tier.DEEP,
    ),
    Check(
        "E804",
        "It learns beyond the null",
        ("W701", "E801", "E802"),
        "Eval loss moves without anything being learned: look at what the evaluation is given, and at the noise.",
        learning.learns_beyond_the_null,
        Tier.DEEP,
    ),
    Check(
        "E805",
        "The evaluation depends on the model",
        ("C104", "E801"),
        "The evaluation does not look at this model: a look-up, a cache, a copy, or another model.",
        learning.evaluation_depends_on_the_model,
        Tier.DEEP,
    ),
    Check(
        "M901",
        "Memory is given back",
        (),
        "Something global keeps tensors alive, such as a cache or the last trainer: gc.get_referrers() names it.",
        steps.memory_is_given_back,
    ),
)
"""All checks, presupposed ones first."""

DEEP_CHECKS = frozenset(check.code for check in CHECKS if check.tier is Tier.DEEP)
"""Codes of the checks that have something to look at only where the deep tier was run."""
