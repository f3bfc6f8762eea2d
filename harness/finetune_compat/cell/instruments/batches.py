"""Measure what the model receives and answers: labels of every batch, and the loss those answers should have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.data import IGNORED
from finetune_compat.contract.records import Labels

ROWS_OF_TOKENS = 2
"""Dimensions of labels that have one for every token."""


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
            # Where the pad token is the end token, padding is no end.
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
        """What was counted; None if no batch came."""
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


class AnswerLog:
    """What the model answered in an evaluation, and what it was asked: kept of the first batch, summed over all."""

    def __init__(self) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of the first batch's forward."""
        self._right = self._tokens = 0
        self._negative_log_likelihood = 0.0

    def note(self, inputs: dict[str, Any], logits: torch.Tensor) -> None:
        """Take in one batch; `logits` are [rows, tokens, vocabulary]."""
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
def listening(model: nn.Module, labels: LabelLog, answers: AnswerLog | None = None) -> Iterator[None]:
    """Note every batch with labels that `model` receives; with `answers`, also what it says."""

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        found = kwargs.get("labels")
        if found is None or found.dim() != ROWS_OF_TOKENS or kwargs.get("input_ids") is None:
            return  # a class for a row, or a batch of another kind: nothing here counts those
        labels.note(kwargs["input_ids"], kwargs["labels"], kwargs.get("attention_mask"))
        if answers is not None:
            # SFTTrainer of TRL 1.7 and later computes the loss without ever holding the logits.
            logits = getattr(output, "logits", None)
            answers.note(kwargs, asked_again(module, kwargs) if logits is None else logits)

    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def asked_again(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """Logits of `model` for a batch it or another model was given before, without dropout and gradients; float32 on the
    CPU, [rows, tokens, vocabulary].
    """
    training = model.training
    # Labels, and flags such as TRL's fused_lm_head, ask for a loss in place of the logits.
    batch = {name: value for name, value in inputs.items() if name != "labels" and isinstance(value, torch.Tensor)}
    model.eval()
    try:
        with torch.no_grad():
            logits: torch.Tensor = model(**batch).logits
    finally:
        model.train(training)
    return logits.detach().float().cpu()
