"""Count the labels of batches, and run a model on a batch again. Objectives define what a batch and its labels are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.data import IGNORED
from finetune_compat.contract.records import Labels


class LabelLog:
    """Labels and input ids of every batch, as the model received them. `end` is the end-of-sequence token."""

    def __init__(self, end: int) -> None:
        self._end = end
        self._samples = self._label_tokens = self._all_masked = self._positions = self._ends = self._ends_masked = 0
        self._ids, self._labels = hashlib.sha256(), hashlib.sha256()

    def note(self, input_ids: torch.Tensor, labels: torch.Tensor, attended: torch.Tensor | None) -> None:
        """Count one batch; all are [rows, tokens], and `attended` is 0 for padding."""
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
        self._ids.update(_bytes(input_ids))
        self._labels.update(_bytes(labels))

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
        )


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
def without_adapters(model: nn.Module) -> Iterator[None]:
    """While open, the adapters of `model`, a PeftModel, are disabled. On exit `requires_grad` is restored, because PEFT
    makes adapters trainable when it enables them, also adapters that were frozen.
    """
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with model.disable_adapter():  # type: ignore[operator]  # PEFT has no types
        yield
    for parameter, trainable in before:
        parameter.requires_grad = trainable
