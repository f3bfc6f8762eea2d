"""What a batch, its labels and its loss are: a module for each objective of the catalog.

A module has the rows of data, the trainer's arguments by version, and the functions of `Objective`. A flow imports the
module of its objective and no other: a cell's address in the store counts these files.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from finetune_compat.cell.instruments.batches import LabelLog


class Answers(Protocol):
    """What the model answered in one evaluation, from its logits and not from what the trainer reports."""

    first: dict[str, Any] | None
    """Keyword arguments of a forward on the first batch."""

    def accuracy(self) -> float | None:
        """Share of right answers, 0 to 1; None without answers."""

    def loss(self) -> float | None:
        """What `eval_loss` should be by the objective's definition; None without answers."""


class Objective(Protocol):
    """The functions that the recorder asks for in a module of this package."""

    def listening(self, trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
        """While open, note the labels of every batch that `trainer` computes a loss of."""

    def evaluating(self, trainer: Any, labels: LabelLog) -> AbstractContextManager[Answers]:
        """The same for an evaluation, and what the model answers in it."""

    def unequal(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A collator like `collate` whose rows weigh unequally in the loss, as rows of real data do."""
