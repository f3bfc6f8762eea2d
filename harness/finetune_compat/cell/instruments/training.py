"""Measure training from outside the trainer: the parameters that the optimizer holds, the batches, the gradients and
the changed weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import TrainerCallback

from finetune_compat.cell.instruments.batches import LabelLog
from finetune_compat.cell.instruments.census import subject
from finetune_compat.cell.instruments.changes import ClassLog, compared, frozen_digests
from finetune_compat.cell.instruments.optimizer import holdings, parameters_held
from finetune_compat.cell.instruments.rows import Data, Given
from finetune_compat.cell.instruments.steps import StepLog
from finetune_compat.cell.objectives import Objective
from finetune_compat.contract.records import Gradients, Labels, Optimizer, Rows, Training


class GradientLog:
    """Notes which trainable tensors receive gradients, and the gradient norm over all tensors at each step."""

    def __init__(self, classes: ClassLog) -> None:
        self.norms: list[float] = []
        self._classes = classes
        self._squares = 0.0
        self._silent: set[str] = set()
        self._zero: set[str] = set()
        self._non_finite: set[str] = set()
        self._tensors = 0
        self._handles: list[Any] = []

    def attach(self, model: nn.Module) -> None:
        """Add a hook to every tensor that is now trainable."""
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
                self._classes.gradient(name, len(self.norms) + 1)
            self._squares += norm * norm

        return note

    def end_step(self) -> None:
        """End the step: append its norm."""
        self.norms.append(math.sqrt(self._squares))
        self._squares = 0.0

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def idle(self) -> tuple[str, ...]:
        """Names of the tensors that never received a gradient other than zero."""
        return tuple(sorted(self._zero))

    def gradients(self) -> Gradients:
        """The counts of the received gradients."""
        zero = self._zero - self._silent
        return Gradients(self._tensors, len(self._silent), len(zero), len(self._non_finite))


class Probe(TrainerCallback):
    """Measures in the callbacks that receive the optimizer in every Transformers release: when training and each step
    begin.
    """

    def __init__(self, trained: dict[str, nn.Parameter], keep_on: str | None = None) -> None:
        self.classes = ClassLog(trained, keep_on)
        self.gradients = GradientLog(self.classes)
        self.learning_rates: list[float] = []
        self.rates_agree = True
        self.optimizer = Optimizer(0, 0, 0)
        self.frozen: dict[str, str] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.optimizer = holdings(given["model"], parameters_held(given["optimizer"]))
        self.frozen = frozen_digests(given["model"])
        self.gradients.attach(given["model"])
        self.classes.begin()

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        rates = [float(group["lr"]) for group in given["optimizer"].param_groups if group["params"]]
        self.learning_rates += rates[:1]
        self.rates_agree = self.rates_agree and len(set(rates)) <= 1

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.gradients.end_step()
        self.classes.end_step(len(self.gradients.norms))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One call of `evaluate()`: the reported loss, and the labels and answers of the model itself."""

    loss: float | None
    accuracy: float | None
    reference: float | None
    labels: Labels | None
    first: dict[str, Any] | None
    """Keyword arguments of the first batch's forward."""
    rows: tuple[int, ...]
    """As in `records.Rows`."""


def evaluated(trainer: Any, objective: Objective, data: Data) -> Evaluation:
    """Evaluate with hooks on the model. All fields are None or empty if the trainer has no evaluation set."""
    if trainer.eval_dataset is None:
        return Evaluation(None, None, None, None, None, ())
    labels = LabelLog(data.end, data.given)
    with objective.evaluating(trainer, labels) as answers:
        loss = trainer.evaluate().get("eval_loss")
    reported = None if loss is None else float(loss)
    rows = tuple(labels.rows)
    return Evaluation(reported, answers.accuracy(), answers.loss(), labels.labels(), answers.first, rows)


def train(
    trainer: Any, objective: Objective, labels: LabelLog, rates_asked: tuple[float, ...], data: Data
) -> tuple[Training, dict[str, Any] | None]:
    """Evaluate, train, and evaluate again. `labels` counts each batch, also those before training raises.

    Returns:
        The measurements, and the forward arguments of the first evaluation batch, to run the model on it again.
    """
    trained = subject(trainer.model)
    probe = Probe(trained)
    # A copy of all weights for each moment is affordable only for the tiny models, whose rows are known.
    steps = StepLog(labels, objective.loss, rates_asked, updates=data.given is not None)
    trainer.add_callback(probe)
    trainer.add_callback(steps)
    with steps.evaluating(trainer.model):
        before = evaluated(trainer, objective, data)
    try:
        with objective.listening(trainer, labels):
            trainer.train()
    finally:
        trainer.remove_callback(probe)
        trainer.remove_callback(steps)
        probe.gradients.detach()
        steps.detach()
    frozen = compared(probe.frozen, trainer.model)
    with steps.evaluating(trainer.model):
        after = evaluated(trainer, objective, data)
    measured = Training(
        steps=len(rates_asked),
        loss=logged(trainer.state.log_history, "loss"),
        grad_norm=tuple(probe.gradients.norms),
        learning_rate=tuple(probe.learning_rates),
        learning_rate_asked=rates_asked,
        eval_before=before.loss,
        eval_after=after.loss,
        accuracy_before=before.accuracy,
        accuracy_after=after.accuracy,
        subject_delta=max(probe.classes.changes().values()),
        subject_finite=all(bool(torch.isfinite(p).all()) for p in trained.values()),
        optimizer=probe.optimizer,
        gradients=probe.gradients.gradients(),
        classes=probe.classes.classes(),
        frozen=frozen,
        learning_rate_logged=logged(trainer.state.log_history, "learning_rate"),
        rates_agree=probe.rates_agree,
        reference_before=before.reference,
        reference_after=after.reference,
        evaluated=before.labels,
        still_layers=probe.classes.still_layers(),
        grad_norm_logged=logged(trainer.state.log_history, "grad_norm"),
        rows=_rows(data.given, labels, before, after),
        dropout=steps.dropout(),
        reference=steps.reference,
        update_error=steps.update_errors(),
    )
    return measured, after.first


def _rows(given: Given | None, labels: LabelLog, before: Evaluation, after: Evaluation) -> Rows | None:
    if given is None:
        return None
    return Rows(given.trained, given.held_out, tuple(labels.rows), (before.rows, after.rows))


def logged(log: Iterable[Mapping[str, Any]], name: str) -> tuple[float, ...]:
    """The values of `name` in a trainer's log. Entries without a value, or with None, are skipped."""
    return tuple(float(value) for entry in log if (value := entry.get(name)) is not None)
