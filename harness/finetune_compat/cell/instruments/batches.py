"""Count the labels of batches, and run a model on a batch again. Objectives define what a batch and its labels are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.data import IGNORED
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.contract.records import Labels


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences with labels. All tensors are [sequences, tokens]."""

    ids: torch.Tensor
    labels: torch.Tensor
    """-100 for every token that does not count in the loss."""
    attended: torch.Tensor | None
    """0 for padding; None if the batch has no padding."""


class LabelLog:
    """Labels and input ids of every batch, as the model received them.

    Args:
        end: the end-of-sequence token.
        given: the rows that the trainer was given; None: rows are not recognised.
    """

    def __init__(self, end: int, given: Given | None = None) -> None:
        self._end, self._given = end, given
        self.last: Batch | None = None
        """The latest batch."""
        self.rows: list[int] = []
        """The rows of all batches, as in `records.Rows`."""
        self._foreign = 0
        self._paused = False
        self._samples = self._label_tokens = self._all_masked = self._positions = self._ends = self._ends_masked = 0
        self._ids, self._labels = hashlib.sha256(), hashlib.sha256()

    def note(self, input_ids: torch.Tensor, labels: torch.Tensor, attended: torch.Tensor | None) -> None:
        """Count one batch; all are [rows, tokens], and `attended` is 0 for padding."""
        if self._paused:
            return
        kept = (labels != IGNORED).sum(dim=-1)
        ends = input_ids == self._end
        if attended is not None and attended.shape == ends.shape:
            # Padding does not count as an end, also where the pad token is the end token.
            ends &= attended.bool()
        self._samples += labels.shape[0]
        self._positions += labels.numel()
        self._label_tokens += int(kept.sum())
        self._all_masked += int((kept == 0).sum())
        self._ends += int(ends.any(dim=-1).sum())
        self._ends_masked += int((ends.any(dim=-1) & ~(ends & (labels == self._end)).any(dim=-1)).sum())
        self._foreign += int(((labels != input_ids) & (labels != IGNORED)).sum())
        self._ids.update(_bytes(input_ids))
        self._labels.update(_bytes(labels))
        self.last = Batch(input_ids, labels, attended)
        if self._given is not None:
            self.rows += self._given.numbers(_sequences(input_ids, attended))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While open, batches are not counted."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def labels(self) -> Labels | None:
        """The counts; None if there was no batch."""
        if not self._samples:
            return None
        return Labels(
            samples=self._samples,
            label_tokens=self._label_tokens,
            all_masked=self._all_masked,
            ids_sha256=self._ids.hexdigest(),
            labels_sha256=self._labels.hexdigest(),
            positions=self._positions,
            ends=self._ends,
            ends_masked=self._ends_masked,
            foreign=self._foreign,
        )


def _sequences(ids: torch.Tensor, attended: torch.Tensor | None) -> list[list[int]]:
    """The tokens of each sequence, without padding."""
    if attended is None or attended.shape != ids.shape:
        return ids.tolist()
    return [
        [token for token, kept in zip(*pair, strict=True) if kept]
        for pair in zip(ids.tolist(), attended.tolist(), strict=True)
    ]


def _bytes(ids: torch.Tensor) -> bytes:
    return ids.detach().to("cpu", torch.int64).contiguous().numpy().tobytes()


def asked_again(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """Logits of `model` for the forward arguments `inputs`, without dropout and gradients: float32 on the CPU, [rows,
    tokens, vocabulary].
    """
    training = model.training
    # With labels, or with flags such as TRL's fused_lm_head, a model may return a loss and no logits.
    batch = {name: value for name, value in inputs.items() if name != "labels" and isinstance(value, torch.Tensor)}
    model.eval()
    try:
        with torch.no_grad():
            logits: torch.Tensor = model(**batch).logits
    finally:
        model.train(training)
    return logits.detach().float().cpu()


@contextmanager
def _disabled(model: Any) -> Iterator[None]:
    """Transformers has two calls where PEFT has a context manager."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """While open, the adapters of `model` are disabled: those of a PeftModel, or those that Transformers added. On exit
    `requires_grad` is restored, because PEFT makes adapters trainable when it enables them, also frozen ones.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with model.disable_adapter() if hasattr(model, "disable_adapter") else _disabled(model):  # type: ignore[operator]
        yield
    for parameter, trainable in before:
        parameter.requires_grad = trainable
