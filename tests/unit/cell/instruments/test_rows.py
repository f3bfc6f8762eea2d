"""Rows of data, recognised by their tokens."""

from __future__ import annotations

import pytest
from finetune_compat.cell.instruments.rows import Given

PAD, END = 0, 1


def words(text: str) -> list[int]:
    """A token for each letter."""
    return [ord(letter) for letter in text]


SINGLE = Given([["ab"], ["cd"]], [["ef"]], words, (PAD, END))
PAIRS = Given([["p+", "p-"], ["q+", "q-"]], [["r+", "r-"]], words, (PAD, END))


def test_rows_have_the_numbers_of_their_data() -> None:
    """Evaluation rows follow the training rows, in whatever order they come."""
    assert (SINGLE.trained, SINGLE.held_out) == (2, 1)
    assert SINGLE.numbers([words("ef"), words("cd"), words("ab")]) == [2, 1, 0]


@pytest.mark.parametrize(
    "tokens", [[*words("cd"), END], [PAD, PAD, *words("cd")], [*words("cd"), END, PAD], [words("c")[0], PAD, ord("d")]]
)
def test_padding_and_end_tokens_do_not_matter(tokens: list[int]) -> None:
    """Releases differ in where they put them."""
    assert SINGLE.numbers([tokens]) == [1]


@pytest.mark.parametrize("text", ["dc", "c", "cdd", ""])
def test_other_tokens_are_of_neither_set(text: str) -> None:
    """Another order, a cut row, and a longer one are other rows."""
    assert SINGLE.numbers([words(text)]) == [-1]


def test_the_sequences_of_a_row_stay_together() -> None:
    """A preference has two. A chosen completion beside the rejected one of another row is no row."""
    assert PAIRS.numbers([words(text) for text in ("q+", "q-", "r+", "r-", "p+", "p-")]) == [1, 2, 0]
    assert PAIRS.numbers([words(text) for text in ("p+", "q-", "p-", "p+")]) == [-1, -1]
