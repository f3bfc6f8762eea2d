"""Rows that were copied before a split: how often rows occur shows it."""

from __future__ import annotations

import random

import pytest
from finetune_compat.cell.script.held_out import copies_of

Rows = list[int]
ROWS = [*range(60)]


def split(rows: Rows) -> tuple[Rows, Rows]:
    """Four fifths and one fifth of `rows`, in another order."""
    mixed = random.Random(0).sample(rows, len(rows))
    cut = len(rows) * 4 // 5
    return mixed[:cut], mixed[cut:]


def copied(rows: Rows) -> Rows:
    """`rows`, those below 40 four times."""
    return [row for row in rows for _ in range(4 if row < 40 else 1)]


def test_rows_copied_before_the_split() -> None:
    assert copies_of(*split(copied(ROWS))) == 4


def test_a_row_that_the_data_have_twice_does_not_hide_the_copies() -> None:
    assert copies_of(*split(copied([*ROWS, 0]))) == 4


@pytest.mark.parametrize(
    "rows",
    [
        # Rows drawn from a few possible ones, each of them as often as the others, and rows that differ.
        [random.Random(seed).choice(ROWS[:20]) for seed in range(80)],
        ROWS[:20] * 4,
        ROWS,
        [*ROWS, *ROWS[:40]],
        # A few rows are repeated.
        [*ROWS, *ROWS[:7] * 3],
    ],
    ids=["drawn", "all often", "different", "twice", "few"],
)
def test_other_repeated_rows_show_no_copying(rows: Rows) -> None:
    assert copies_of(*split(rows)) == 0


def test_sets_that_are_not_read_whole_show_nothing() -> None:
    assert copies_of([*range(5000), *[0] * 3], [1]) == 0
