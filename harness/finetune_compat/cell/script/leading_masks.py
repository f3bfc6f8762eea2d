"""Rows whose labels mask less of their prompt than the script means to mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from finetune_compat.cell.script.prompts import Ids

_MOST_ROWS = 64

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


def _longest(row: Ids, prompts: set[Ids], lengths: Sequence[int]) -> int:
    """Tokens of the longest of `prompts` that `row` begins with and that is shorter than `row`; 0 if there is none."""
    return max((length for length in lengths if length < len(row) and row[:length] in prompts), default=0)
