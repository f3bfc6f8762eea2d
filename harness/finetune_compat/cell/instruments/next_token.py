"""Batches of a causal language model, with one label per token. The labels are those that the model's forward receives.
The loss is the mean negative log-likelihood of the label tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.data import IGNORED, MARKS, texts
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup

ROWS_OF_TOKENS = 2
"""Dimensions of labels with one entry per token: [rows, tokens]."""


class AnswerLog:
    """The model's answers in an evaluation, summed over all batches, and the inputs of the first batch."""

    def __init__(self) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of the first batch's forward."""
        self._right = self._tokens = 0
        self._negative_log_likelihood = 0.0

    def note(self, inputs: dict[str, Any], logits: torch.Tensor) -> None:
        """Add one batch; `logits` are [rows, tokens, vocabulary]."""
        self.first = self.first or inputs
        wanted = inputs["labels"][:, 1:].to(logits.device)
        counts = wanted != IGNORED
        chosen = logits[:, :-1].detach()[counts].float()
        self._right += int((chosen.argmax(dim=-1) == wanted[counts]).sum())
        self._tokens += int(counts.sum())
        self._negative_log_likelihood += float(nn.functional.cross_entropy(chosen, wanted[counts], reduction="sum"))

    def accuracy(self) -> float | None:
        """Share of label tokens that were the likeliest next token; None without answers."""
        return self._right / self._tokens if self._tokens else None

    def loss(self) -> float | None:
        """Mean negative log-likelihood of the label tokens, the definition of a causal language model's loss."""
        return self._negative_log_likelihood / self._tokens if self._tokens else None


@contextmanager
def hearing(model: nn.Module, labels: LabelLog, answers: AnswerLog | None = None) -> Iterator[None]:
    """While open, note the labels of every batch that `model` receives; with `answers`, also its logits."""

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        found = kwargs.get("labels")
        if found is None or found.dim() != ROWS_OF_TOKENS or kwargs.get("input_ids") is None:
            return  # labels with one entry per row, or a batch without token ids
        labels.note(kwargs["input_ids"], kwargs["labels"], kwargs.get("attention_mask"))
        if answers is not None:
            # SFTTrainer of TRL 1.7 and later computes the loss without materialising the logits.
            logits = getattr(output, "logits", None)
            answers.note(kwargs, asked_again(module, kwargs) if logits is None else logits)

    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def given(setup: Setup) -> Given:
    """The rows of a flow: one sequence of words each."""
    train, held_out = (tuple((text,) for text in rows) for rows in texts(setup.seed))
    return Given(train, held_out, lambda text: setup.model.tokenizer(text)["input_ids"], MARKS)


def loss(model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
    """Mean negative log-likelihood of the label tokens of `batch` that follow a token."""
    logits, wanted = model(**inputs).logits[:, :-1].float(), batch.labels[:, 1:]
    return nn.functional.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORED)


def listening(trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
    """While open, note the labels of every batch that the model of `trainer` receives."""
    return hearing(trainer.model, labels)


@contextmanager
def evaluating(trainer: Any, labels: LabelLog) -> Iterator[AnswerLog]:
    """As `listening`, for an evaluation; yields the model's answers."""
    answers = AnswerLog()
    with hearing(trainer.model, labels, answers):
        yield answers


def unequal(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A collator like `collate` whose rows have different numbers of labels, as in real data. The mean over the labels
    of a batch then differs from the mean of the means of its rows.
    """

    def collated(rows: Any) -> Any:
        batch = collate(rows)
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
            labels[: int(ids.sum()) % 4 * len(labels) // 5] = IGNORED
        return batch

    return collated
