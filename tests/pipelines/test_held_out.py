"""The rows that training and evaluation sets share, on this stack's datasets."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset, concatenate_datasets
from finetune_compat.cell.script.held_out import Cut, Shared, compared, cut_of

ROWS: list[tuple[int, ...]] = [(number, number + 1) for number in range(60)]
OFTEN = dict.fromkeys(ROWS[:40], 4)
"""The rows that are taken several times, and how often."""


def dataset(rows: list[tuple[int, ...]]) -> Dataset:
    return Dataset.from_list([{"input_ids": list(row)} for row in rows])


def split(rows: list[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Four fifths and one fifth of `rows`, in another order."""
    mixed = random.Random(0).sample(rows, len(rows))
    cut = len(rows) * 4 // 5
    return mixed[:cut], mixed[cut:]


def copied(rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [row for row in rows for _ in range(OFTEN.get(row, 1))]


def test_rows_copied_before_the_split_lie_on_both_sides() -> None:
    training, evaluation = split(copied(ROWS))
    trainer = SimpleNamespace(train_dataset=dataset(training), eval_dataset={"held out": dataset(evaluation)})
    found = compared(trainer)
    assert (found.rows, found.copies) == (len(evaluation), 4)
    assert found.trained == sum(row in training for row in evaluation) > len(evaluation) / 2


def test_rows_copied_after_the_split_are_on_one_side() -> None:
    """The training set repeats its rare rows, and no held-out row is among them."""
    training, evaluation = split(ROWS)
    trainer = SimpleNamespace(train_dataset=dataset(copied(training)), eval_dataset=dataset(evaluation))
    assert compared(trainer).trained == 0


def test_few_possible_rows_are_not_compared() -> None:
    rows = [random.Random(seed).choice(ROWS[:20]) for seed in range(80)]
    training, evaluation = split(rows)
    trainer = SimpleNamespace(train_dataset=dataset(training), eval_dataset=dataset(evaluation))
    assert compared(trainer) == Shared()


def test_of_several_sets_the_one_that_is_in_part_in_the_training_set_is_compared() -> None:
    """A set of training rows to watch hides no leak of the other one."""
    leaks = [*ROWS[40:48], *ROWS[48:50]]
    for names in (("fit", "leaks"), ("leaks", "fit")):
        sets = {"fit": dataset(ROWS[:12]), "leaks": dataset(leaks)}
        trainer = SimpleNamespace(train_dataset=dataset(ROWS[:48]), eval_dataset={name: sets[name] for name in names})
        assert compared(trainer) == Shared(10, 8)


def cut(given: Mapping[str, Any], *names: str) -> Cut:
    """The cut of the evaluation set among `given`, for which the script has `names`."""
    return cut_of(given, lambda rows: names)


@pytest.mark.parametrize(("part", "places"), [("end", range(48, 60)), ("beginning", range(12))])
def test_a_training_set_that_still_has_the_rows_that_were_cut_from_it(part: str, places: range) -> None:
    rows = dataset(ROWS)
    for one in (rows, rows.shuffle(seed=3)):
        for chosen in (places, list(places)):
            given = {"train_dataset": one, "eval_dataset": one.select(chosen)}
            assert cut(given, "held_out") == Cut(part, "held_out")
            assert cut(given, "train") == Cut(part)


@pytest.mark.parametrize(
    "name", ["held_out", "heldout_rows", "validation", "val", "X_val", "dev_set", "test", "unseen"]
)
def test_names_that_say_that_rows_are_held_out(name: str) -> None:
    rows = dataset(ROWS)
    assert cut({"train_dataset": rows, "eval_dataset": rows.select(range(12))}, "rows", name).name == name


@pytest.mark.parametrize("name", ["eval_dataset", "fit", "train_slice", "latest", "device", "values", "invalid", "few"])
def test_names_that_say_nothing_about_training(name: str) -> None:
    rows = dataset(ROWS)
    assert cut({"train_dataset": rows, "eval_dataset": rows.select(range(12))}, name) == Cut("beginning")


def test_of_several_sets_the_key_is_a_name() -> None:
    rows = dataset(ROWS)
    sets = {"fit": rows.select(range(12)), "validation": rows.select(range(48, 60))}
    assert cut({"train_dataset": rows, "eval_dataset": sets}) == Cut("end", "validation")
    assert cut({"train_dataset": rows, "eval_dataset": {"fit": sets["fit"]}}) == Cut("beginning")


def test_evaluation_sets_that_were_not_cut_and_left() -> None:
    rows = dataset(ROWS)
    held_out = rows.select(range(48, 60))
    nothing = Cut()
    assert cut({"train_dataset": rows.select(range(48)), "eval_dataset": held_out}, "held_out") == nothing
    assert cut({"train_dataset": rows, "eval_dataset": rows.shuffle(seed=0).select(range(12))}, "test") == nothing
    assert cut({"train_dataset": rows, "eval_dataset": rows}, "test") == nothing
    assert cut({"train_dataset": rows}) == nothing
    # The last training uses all rows that there are.
    everything = concatenate_datasets([rows.select(range(48)), held_out])
    assert cut({"train_dataset": everything, "eval_dataset": held_out}, "held_out") == nothing
    assert cut({"train_dataset": dataset(ROWS), "eval_dataset": dataset(ROWS[48:])}, "held_out") == nothing
