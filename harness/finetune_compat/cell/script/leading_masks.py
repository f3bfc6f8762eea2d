"""Rows whose labels mask less of their prompt than the script means to mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from finetune_compat.cell.script.prompts import Ids

_MOST_ROWS = 64

_FEWEST = 2
"""Least number of rows with a prompt that is masked in part, from which on padding explains it and no chance."""

_WRONG_LENGTHS = (1, 2, 3)
"""Results of `len()` that are no number of tokens: of a tensor [1, tokens], and of a tokenizer's result, which has an
entry for ids, one for the attention mask and, for some tokenizers, one for token types.
"""


class LeadingMasks:
    """The first rows, as long as the labels of each mask the same few tokens at its beginning and nothing else."""

    def __init__(self) -> None:
        self._masked: int | None = None
        self._rows: list[Ids] = []
        self._together = False
        self._alike = True

    def note(self, ids: torch.Tensor, learned: torch.Tensor, real: torch.Tensor) -> None:
        """Add the rows of a batch: tokens, and which of them are labels and no padding. All are [rows, tokens]."""
        if not self._alike or len(self._rows) >= _MOST_ROWS:
            return
        # A batch of one row may be several sequences without padding, whose first tokens are masked.
        self._together = self._together or len(ids) > 1
        for row, kept, own in zip(ids, learned, real, strict=True):
            labels = kept[own].tolist()
            masked = labels.index(True) if True in labels else 0
            self._masked = masked if self._masked is None else self._masked
            self._alike = masked == self._masked and masked in _WRONG_LENGTHS and all(labels[masked:])
            if not self._alike:
                return
            self._rows.append(tuple(row[own].tolist()))

    def of(self, prompts: set[Ids], special: Sequence[int]) -> tuple[int, int] | None:
        """Tokens that every row masks, and tokens of the longest prompt, if every row begins with one of `prompts` and
        masks too few tokens to be its length; else None.

        Args:
            special: tokens that may be masked for themselves, such as one that begins every row.
        """
        if not (self._alike and self._together and self._masked):
            return None
        masked = self._masked
        if masked == 1 and any(row[0] in special for row in self._rows):
            return None
        lengths = sorted({len(prompt) for prompt in prompts if len(prompt) > masked + 1})
        longest = [_longest(row, prompts, lengths) for row in self._rows]
        return (masked, max(longest)) if all(longest) else None


class PaddedMasks:
    """The first rows, as long as the labels of each mask nothing but the beginning, and padding stands before rows."""

    def __init__(self) -> None:
        self._rows: list[tuple[Ids, int, int]] = []
        """Tokens, number of padding tokens before them, and number of them that are masked."""
        self._alike = True

    def note(self, ids: torch.Tensor, learned: torch.Tensor, real: torch.Tensor) -> None:
        """Add the rows of a batch: tokens, and which of them are labels and no padding. All are [rows, tokens]."""
        for row, kept, own in zip(ids, learned, real, strict=True):
            if not self._alike or len(self._rows) >= _MOST_ROWS:
                return
            labels = kept[own].tolist()
            masked = labels.index(True) if True in labels else len(labels)
            self._alike = all(labels[masked:])
            self._rows.append((tuple(row[own].tolist()), int(own.int().argmax()), masked))

    def of(self, prompts: set[Ids]) -> int:
        """Rows of which a part of the prompt is learned because the padding before it was counted: every row masks as
        many tokens as its prompt, one of `prompts`, has, together with the padding. 0 if that does not explain every
        row, or if less than `_FEWEST` rows are masked in part: labels that mask nothing may be meant.
        """
        lengths = sorted({len(prompt) for prompt in prompts})
        begins = [(_beginnings(row, prompts, lengths), padded, masked) for row, padded, masked in self._rows]
        explained = all(any(masked == max(0, one - padded) for one in found) for found, padded, masked in begins)
        if not (self._alike and explained) or all(masked in found for found, _, masked in begins):
            return 0
        learned = [masked for _, padded, masked in begins if padded]
        return len(learned) if sum(masked > 0 for masked in learned) >= _FEWEST else 0


def _longest(row: Ids, prompts: set[Ids], lengths: Sequence[int]) -> int:
    """Tokens of the longest of `prompts` that `row` begins with and that is shorter than `row`; 0 if there is none."""
    return max(_beginnings(row, prompts, lengths), default=0)


def _beginnings(row: Ids, prompts: set[Ids], lengths: Sequence[int]) -> list[int]:
    """Tokens of each of `prompts` that `row` begins with and that is shorter than `row`."""
    return [length for length in lengths if length < len(row) and row[:length] in prompts]
