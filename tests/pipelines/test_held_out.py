"""The rows that training and evaluation sets share, on this stack's datasets."""

from __future__ import annotations

import random
from types import SimpleNamespace

from datasets import Dataset, concatenate_datasets
from finetune_compat.cell.script.held_out import Shared, compared, is_tail

ROWS = [(number, number + 1) for number in range(60)]
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


def test_a_training_set_that_still_has_the_end_that_was_held_out() -> None:
    rows = dataset(ROWS)
    for one in (rows, rows.shuffle(seed=3)):
        for last in (range(48, 60), list(range(48, 60))):
            assert is_tail({"train_dataset": one, "eval_dataset": one.select(last)})


def test_evaluation_sets_that_are_no_forgotten_end() -> None:
    rows = dataset(ROWS)
    held_out = rows.select(range(48, 60))
    assert not is_tail({"train_dataset": rows.select(range(48)), "eval_dataset": held_out})
    assert not is_tail({"train_dataset": rows, "eval_dataset": rows.select(range(12))})
    assert not is_tail({"train_dataset": rows, "eval_dataset": rows.shuffle(seed=0).select(range(12))})
    assert not is_tail({"train_dataset": rows, "eval_dataset": rows})
    assert not is_tail({"train_dataset": rows})
    # The last training uses all rows that there are.
    everything = concatenate_datasets([rows.select(range(48)), held_out])
    assert not is_tail({"train_dataset": everything, "eval_dataset": held_out})
    assert not is_tail({"train_dataset": dataset(ROWS), "eval_dataset": dataset(ROWS[48:])})
