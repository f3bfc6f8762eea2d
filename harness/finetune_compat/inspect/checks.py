"""The table of the checks of a saved adapter."""

from __future__ import annotations

from finetune_compat.checks.engine import Engine
from finetune_compat.inspect import beside_checks, config_checks, load_checks, name_checks, value_checks
from finetune_compat.inspect.case import Case

ENGINE = Engine[Case](
    ("S201", value_checks.has_tensors),
    ("S202", value_checks.gathered),
    ("S209", beside_checks.gradients_arrived),
    ("S204", value_checks.ever_trained),
    ("S101", config_checks.not_frozen_when_reloaded),
    ("S102", config_checks.scaled),
    ("S103", config_checks.patterns_match),
    ("S104", config_checks.heads_told_apart),
    ("S105", config_checks.ends_kept_together),
    ("S106", config_checks.judged_in_depth),
    ("S107", config_checks.every_value_read),
    ("S108", config_checks.no_pickle_beside),
    ("S109", config_checks.training_shows),
    ("S110", name_checks.exclusion_shows),
    ("S111", config_checks.trainable_when_reloaded),
    ("S203", value_checks.finite),
    ("S205", value_checks.trained_everywhere),
    ("S206", value_checks.trained_in_every_expert),
    ("S207", value_checks.nothing_wiped),
    ("S208", value_checks.no_copies),
    ("S210", beside_checks.loss_is_a_number),
    ("S301", name_checks.named_as_peft_does),
    ("S302", name_checks.in_pairs),
    ("S303", name_checks.ranks_as_asked),
    ("S304", name_checks.targets_have_tensors),
    ("S305", name_checks.updates_are_asked_for),
    ("S306", name_checks.saved_whole_is_there),
    ("S307", name_checks.magnitudes_as_asked),
    ("S308", name_checks.whole_is_asked_for),
    ("S309", name_checks.biases_saved),
    ("S310", beside_checks.added_rows_saved),
    ("S401", load_checks.loads_at_all),
    ("S402", load_checks.nothing_missing),
    ("S403", load_checks.nothing_dropped),
    ("S404", load_checks.shapes_fit),
    ("S405", load_checks.options_known),
    ("S406", load_checks.foretold),
)
"""All checks of a saved adapter; those that explain other findings come first."""
