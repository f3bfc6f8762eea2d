"""The comparison of the census of a model on two stacks."""

from __future__ import annotations

import dataclasses

from census_builders import linear, qwen, table, taken
from finetune_compat.census.compare import Figure, compared, reach
from finetune_compat.census.taken import Trainer, Way
from finetune_compat.census.verdicts import Code
from finetune_compat.contract.records import Area, Stage


def test_a_moved_part_is_one_move_and_no_weight_is_gone() -> None:
    """`model` became `model.language_model`, and `visual` became `model.visual`."""
    old = [w.path.replace("model.language_model", "model").replace("model.visual", "visual") for w in qwen().weights]
    weights = [dataclasses.replace(w, path=path) for w, path in zip(qwen("q_proj").weights, old, strict=True)]
    changes = compared(taken(table(*weights), "q_proj"), taken(qwen("q_proj"), "q_proj"))
    assert [(move.before, move.after) for move in changes.moves] == [
        ("model", "model.language_model"),
        ("visual", "model.visual"),
    ]
    assert (changes.gone, changes.new, changes.reaches) == ((), (), ())


def test_new_and_resolved_verdicts_are_distinguished() -> None:
    """Verdicts are compared by code and patterns."""
    healthy, ill = taken(qwen("q_proj"), "q_proj"), taken(qwen("q_proj"), "q_proj,fc9")
    assert [f.code for f in compared(healthy, ill).new_findings] == [Code.UNMATCHED]
    assert [f.code for f in compared(ill, healthy).gone_findings] == [Code.UNMATCHED]
    assert compared(ill, healthy).lasting_findings == ()


def test_a_weight_that_went_is_gone_and_one_that_came_is_new() -> None:
    """A weight of another shape is another weight."""
    old, other = linear("m.[0-27].q_proj"), linear("m.[0-27].fc1")
    reshaped = dataclasses.replace(old, shape=(64, 128))
    changes = compared(taken(table(old, other), "q_proj"), taken(table(reshaped), "q_proj"))
    assert (changes.moves, changes.gone, changes.new) == ((), (old, other), (reshaped,))
    assert not changes.same


def test_a_pattern_that_reaches_more_is_named_with_both_numbers() -> None:
    """By area: 28 layers, and 32 blocks of the vision encoder."""
    before, after = taken(qwen("q_proj"), "q_proj"), taken(qwen("q_proj", vision=["q_proj"]), "q_proj")
    [change] = compared(before, after).reaches
    assert (change.pattern, change.before, change.after) == (
        "q_proj",
        {Area.LANGUAGE: 28},
        {Area.LANGUAGE: 28, Area.VISION: 32},
    )
    assert reach(after.table, "k_proj") == {}


def test_every_count_that_changes_is_a_shift() -> None:
    """Half as many parameters at load. A stage that is missing on one side counts as zero."""
    whole = qwen("q_proj")
    load = dataclasses.replace(whole.stages[0], total=50)
    short = dataclasses.replace(whole, stages=(load, whole.stages[1]))
    shifts = compared(taken(whole, "q_proj"), taken(short, "q_proj")).shifts
    assert [(shift.stage, shift.figure, shift.before, shift.after) for shift in shifts] == [
        (Stage.LOAD, Figure.STORED, 100, 50),
        (Stage.PEFT, Figure.TRAINABLE, 1024, 0),
        (Stage.PEFT, Figure.STORED, 1124, 0),
        (Stage.PEFT, Figure.LOGICAL, 1_001_024, 0),
    ]


def test_another_issue_at_the_trainer_is_a_change() -> None:
    """The same trainer with the same issue is none."""
    free, frozen = Trainer(Way.WRAPPED, 1024, None, None), Trainer(Way.WRAPPED, 0, "trl#3926", "x")
    before, after = (dataclasses.replace(taken(qwen("q_proj"), "q_proj"), trainers=(t,)) for t in (free, frozen))
    assert compared(before, after).trainers == ((free, frozen),)
    assert compared(after, after).same
