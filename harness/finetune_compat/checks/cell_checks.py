"""The checks of a cell. If a flow ends in an error, F001 reports it, and later checks have no data."""

from __future__ import annotations

from finetune_compat.checks import learning, references, stages, steps
from finetune_compat.checks.case import Case
from finetune_compat.checks.consequences import FOLLOWS
from finetune_compat.checks.engine import Engine
from finetune_compat.contract.records import Stage

ENGINE = Engine[Case](
    ("P101", stages.options_accepted),
    ("P102", stages.attention_as_asked),
    ("D801", stages.weights_have_the_dtype_asked_for),
    ("C101", stages.census_check(Stage.LOAD)),
    ("C102", stages.census_check(Stage.PREPARE)),
    ("C120", stages.adapters_sit_where_the_targets_are),
    ("C103", stages.census_check(Stage.PEFT)),
    ("C104", stages.census_check(Stage.TRAINER)),
    ("C105", stages.census_check(Stage.AFTER_TRAINING)),
    ("C106", stages.census_check(Stage.RELOAD)),
    ("C110", stages.totals_follow_from_the_config),
    ("D802", stages.adapters_keep_one_dtype),
    ("F001", steps.runs_to_its_end),
    ("A201", stages.adapter_kept),
    ("A202", stages.reloaded_is_what_was_trained),
    ("L501", steps.labels_present),
    ("L503", references.labels_are_tokens),
    ("L502", steps.ends_are_labels),
    ("B101", references.rows_are_those_given),
    ("B102", references.rows_are_shuffled),
    ("O301", steps.optimizer_holds_what_is_trainable),
    ("R601", steps.learning_rate_as_asked),
    ("G401", steps.gradients_arrive),
    ("G404", steps.gradient_norm_finite),
    ("G405", steps.gradients_arrive_to_the_end),
    ("P103", references.dropout_as_asked),
    ("G406", references.gradient_is_that_of_the_loss),
    ("G407", references.logged_norm_is_that_of_the_gradient),
    ("E807", steps.training_loss_is_a_number),
    ("E809", references.logged_loss_is_that_of_the_batch),
    ("W701", steps.weights_change),
    ("W703", steps.weights_change_to_the_end),
    ("O302", references.update_is_that_of_adamw),
    ("W702", steps.frozen_weights_stay),
    ("B201", references.later_tokens_change_nothing),
    ("B202", references.padding_changes_nothing),
    ("A204", stages.adapter_has_effect),
    ("A203", stages.reload_answers_alike),
    ("E801", learning.eval_loss_present),
    ("B103", references.evaluation_covers_its_rows),
    ("E806", learning.eval_loss_plausible),
    ("E802", learning.eval_loss_falls),
    ("G402", steps.accumulation_changes_nothing),
    ("G403", steps.checkpointing_changes_nothing),
    ("B104", references.order_depends_on_the_seed),
    ("E804", learning.learns_beyond_the_null),
    ("E805", learning.evaluation_depends_on_the_model),
    ("M901", steps.memory_is_given_back),
    follows=FOLLOWS,
)

CHECKS = ENGINE.codes
"""All checks of a cell, in the order in which they run."""
