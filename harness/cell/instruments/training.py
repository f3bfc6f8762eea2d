"""Measure training from outside the trainer: what the optimizer holds, what the model receives, which gradients
arrive.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from harness.cell.data import IGNORED
from harness.cell.instruments.census import subject
from harness.cell.instruments.optimizer import holdings, parameters_held
from harness.records import Gradients, Labels, Optimizer, Training


class LabelLog:
    """Labels and input ids of every training batch, as the model received them."""

    def __init__(self) -> None:
        self.samples = self.label_tokens = self.all_masked = 0
        self._ids, self._labels = hashlib.sha256(), hashlib.sha256()

    def note(self, input_ids: torch.Tensor, labels: torch.Tensor) -> None:
        """Count one batch; `input_ids` and `labels` are [rows, tokens]."""
        kept = (labels != IGNORED).sum(dim=-1)
        self.samples += labels.shape[0]
        self.label_tokens += int(kept.sum())
        self.all_masked += int((kept == 0).sum())
        self._ids.update(_bytes(input_ids))
        self._labels.update(_bytes(labels))

    def labels(self) -> Labels | None:
        """What was counted; None if no batch came."""
        if not self.samples:
            return None
        digests = self._ids.hexdigest(), self._labels.hexdigest()
        return Labels(self.samples, self.label_tokens, self.all_masked, *digests)


def _bytes(ids: torch.Tensor) -> bytes:
    return ids.detach().to("cpu", torch.int64).contiguous().numpy().tobytes()


class GradientLog:
    """Which trainable tensors received gradients, and the norm over all of them at each step."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self._squares = 0.0
        self._silent: set[str] = set()
        self._zero: set[str] = set()
        self._non_finite: set[str] = set()
        self._tensors = 0
        self._handles: list[Any] = []

    def attach(self, model: nn.Module) -> None:
        """Listen at every tensor that is trainable now."""
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._tensors = len(trainable)
        self._silent = {name for name, _ in trainable}
        self._zero = set(self._silent)
        self._handles = [p.register_post_accumulate_grad_hook(self._listener(name)) for name, p in trainable]

    def _listener(self, name: str) -> Callable[[torch.Tensor], None]:
        def note(parameter: torch.Tensor) -> None:
            norm = float(torch.linalg.vector_norm(parameter.grad.detach().float()))  # type: ignore[union-attr]
            self._silent.discard(name)
            if not math.isfinite(norm):
                self._non_finite.add(name)
            if norm != 0:
                self._zero.discard(name)
            self._squares += norm * norm

        return note

    def end_step(self) -> None:
        """Close the step: its norm is complete."""
        self.norms.append(math.sqrt(self._squares))
        self._squares = 0.0

    def detach(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def gradients(self) -> Gradients:
        """What arrived."""
        zero = self._zero - self._silent
        return Gradients(self._tensors, len(self._silent), len(zero), len(self._non_finite))


class _Probe(TrainerCallback):
    """Reads the optimizer where every Transformers release hands it over: at the begin of training and of each step."""

    def __init__(self) -> None:
        self.gradients = GradientLog()
        self.learning_rates: list[float] = []
        self.optimizer = Optimizer(0, 0, 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.optimizer = holdings(given["model"], parameters_held(given["optimizer"]))
        self.gradients.attach(given["model"])

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        groups = given["optimizer"].param_groups
        if any(group["params"] for group in groups):
            self.learning_rates.append(float(groups[0]["lr"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.gradients.end_step()


class _Accuracy:
    """Share of label tokens whose next-token prediction is right, over an evaluation."""

    def __init__(self) -> None:
        self._right = self._tokens = 0

    def note(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        wanted = labels[:, 1:]
        right = (logits[:, :-1].argmax(dim=-1) == wanted) & (wanted != IGNORED)
        self._right += int(right.sum())
        self._tokens += int((wanted != IGNORED).sum())

    def share(self) -> float | None:
        return self._right / self._tokens if self._tokens else None


@contextmanager
def _listening(model: nn.Module, labels: LabelLog, accuracy: _Accuracy) -> Iterator[None]:
    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if kwargs.get("labels") is None:
            return
        if module.training:
            labels.note(kwargs["input_ids"], kwargs["labels"])
        elif getattr(output, "logits", None) is not None:
            accuracy.note(output.logits, kwargs["labels"])

    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _evaluated(trainer: Any, labels: LabelLog) -> tuple[float | None, float | None]:
    if trainer.eval_dataset is None:
        return None, None
    accuracy = _Accuracy()
    with _listening(trainer.model, labels, accuracy):
        loss = trainer.evaluate().get("eval_loss")
    return (None if loss is None else float(loss)), accuracy.share()


def train(trainer: Any, labels: LabelLog, rates_asked: tuple[float, ...]) -> Training:
    """Evaluate, train, evaluate again; `labels` is filled as batches arrive, also when training raises."""
    trained = subject(trainer.model)
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    probe = _Probe()
    trainer.add_callback(probe)
    loss_before, accuracy_before = _evaluated(trainer, labels)
    with _listening(trainer.model, labels, _Accuracy()):
        trainer.train()
    trainer.remove_callback(probe)
    probe.gradients.detach()
    loss_after, accuracy_after = _evaluated(trainer, labels)
    return Training(
        steps=len(rates_asked),
        loss=tuple(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry),
        grad_norm=tuple(probe.gradients.norms),
        learning_rate=tuple(probe.learning_rates),
        learning_rate_asked=rates_asked,
        eval_before=loss_before,
        eval_after=loss_after,
        accuracy_before=accuracy_before,
        accuracy_after=accuracy_after,
        subject_delta=_largest_change(before, trained),
        subject_finite=all(bool(torch.isfinite(p).all()) for p in trained.values()),
        optimizer=probe.optimizer,
        gradients=probe.gradients.gradients(),
    )


def _largest_change(before: dict[str, torch.Tensor], now: dict[str, nn.Parameter]) -> float:
    # Other dtypes would round small changes away.
    return max(float((now[name].detach().float() - old.float()).abs().max()) for name, old in before.items())
