"""One module per objective of the catalog. It defines what a batch, its labels and its loss are.

A module has the rows of data, the trainer's arguments for each version, and the functions of `Objective`. A flow
imports only the module of its objective, because these files are part of a cell's address in the store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn

from finetune_compat.cell.instruments.batches import Batch, LabelLog
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup


class Answers(Protocol):
    """The model's answers in one evaluation, computed from its logits and not from the trainer's report."""

    first: dict[str, Any] | None
    """Keyword arguments of a forward on the first batch."""

    def accuracy(self) -> float | None:
        """Share of right answers, 0 to 1; None without answers."""

    def loss(self) -> float | None:
        """The `eval_loss` by the definition of the objective; None without answers."""


class Objective(Protocol):
    """The functions of an objective's module that the recorder calls."""

    def listening(self, trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
        """While open, note the labels of every batch for which `trainer` computes a loss."""

    def evaluating(self, trainer: Any, labels: LabelLog) -> AbstractContextManager[Answers]:
        """As `listening`, for an evaluation; yields the model's answers."""

    def given(self, setup: Setup) -> Given:
        """The rows that a flow with `setup` gives its trainer."""

    def loss(self, model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
        """The loss of one training batch by the definition of the objective, for a backward pass.

        Args:
            model: the model of the trainer, in training mode.
            inputs: the keyword arguments of its forward, without labels.
            batch: the batch as `listening` noted it.
        """

    def unequal(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A collator like `collate` whose rows have different weights in the loss, as in real data."""
