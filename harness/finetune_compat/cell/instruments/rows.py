"""Recognise rows of data by their tokens, in whatever order and with whatever padding a trainer passes them on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Tokenize = Callable[[str], Sequence[int]]


class Given:
    """The rows that a trainer was given. Each row is one sequence of text or several, which stay together.

    Args:
        train: the sequences of each training row.
        held_out: the sequences of each evaluation row.
        tokenize: the tokens of a sequence.
        marks: tokens that a release or a collator may add to a sequence: padding, an end token, placeholders.
    """

    def __init__(
        self,
        train: Sequence[Sequence[str]],
        held_out: Sequence[Sequence[str]],
        tokenize: Tokenize,
        marks: Iterable[int],
    ) -> None:
        self._marks = frozenset(marks)
        self.trained, self.held_out = len(train), len(held_out)
        self._sequences = len(train[0])
        self._numbers = {
            tuple(self._core(tokenize(text)) for text in row): number for number, row in enumerate([*train, *held_out])
        }

    def _core(self, tokens: Iterable[int]) -> tuple[int, ...]:
        return tuple(token for token in tokens if token not in self._marks)

    def numbers(self, sequences: Sequence[Sequence[int]]) -> list[int]:
        """The numbers of the rows that consist of `sequences`, as in `records.Rows`."""
        cores = [self._core(sequence) for sequence in sequences]
        each = self._sequences
        return [self._numbers.get(tuple(cores[at : at + each]), -1) for at in range(0, len(cores), each)]


@dataclass(frozen=True, slots=True)
class Data:
    """The tokens and rows of a flow's data that instruments recognise."""

    end: int
    """The end-of-sequence token."""
    pad: int
    """The padding token."""
    given: Given | None
    """None for real weights, because a sequence and its parts may be tokenized differently."""
