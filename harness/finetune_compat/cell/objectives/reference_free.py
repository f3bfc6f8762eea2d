"""What ORPO and CPO have in common: a chosen completion must become likelier than a rejected one, and there is no
reference model. Their losses are in `odds_ratio` and `contrastive`.

Windows: TRL 0.9 to 0.28 have both trainers as `trl.ORPOTrainer` and `trl.CPOTrainer`; `trl.experimental` has them from
0.26.0 on.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from finetune_compat.cell import adapt, constructors
from finetune_compat.cell.data import IGNORED
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again
from finetune_compat.cell.objectives import preference
from finetune_compat.cell.setup import Setup

_PROMPT = "max_prompt_length"
"""An option of releases before 0.29. Its default is more than the longest sequence, which some of them refuse."""


@dataclass(frozen=True, slots=True)
class ReferenceFree:
    """The functions of an objective module (`finetune_compat.cell.objectives.Objective`) for one such loss."""

    method: str
    """The name in the classes of TRL, for example `ORPO`."""
    options: Mapping[str, Any]
    """Options of its loss."""
    losses: Callable[[torch.Tensor, Batch], torch.Tensor]
    """The loss of each pair, [pairs], from the logits of a batch, whose chosen and rejected sequences alternate."""

    def trainer(self) -> type[Any]:
        """The trainer of the method. A flow calls it when it is imported: modules of TRL that are first imported in
        `Stage.TRAINER` would keep the observed functions of PEFT, and with them the recorder.
        """
        importlib.import_module("trl.trainer.dpo_trainer")  # for `preference.arguments`
        return self._of_trl("Trainer")

    def _of_trl(self, kind: str) -> Any:
        import trl

        name = f"{self.method}{kind}"
        if hasattr(trl, name):
            return getattr(trl, name)
        return getattr(importlib.import_module(f"trl.experimental.{self.method.lower()}"), name)

    def arguments(self, setup: Setup) -> dict[str, Any]:
        """Keyword arguments for the trainer, without the model: configuration, tokenizer, and the rows of DPO."""
        rows = preference.arguments(setup)
        given = {
            "train_dataset": rows["train_dataset"],
            "eval_dataset": rows["eval_dataset"],
            "processing_class": setup.model.tokenizer,
        }
        asked = {**adapt.training_options(setup), "max_length": setup.model.max_length, **self.options}
        kind = self._of_trl("Config")
        if hasattr(kind, _PROMPT):
            asked[_PROMPT] = setup.model.max_length // 2
        config = adapt.configured(kind, asked, setup)
        return {"args": config, **adapt.named(constructors.options(self.trainer()), given, setup)}

    def loss(self, model: nn.Module, _: dict[str, Any], batch: Batch) -> torch.Tensor:
        """Mean loss of the pairs of `batch`."""
        return self.losses(model(input_ids=batch.ids, attention_mask=batch.attended).logits, batch).mean()

    @contextmanager
    def evaluating(self, trainer: Any, labels: LabelLog) -> Iterator[PairLog]:
        """Note the labels of every batch of an evaluation; yields which completions the model finds likelier."""
        answers = PairLog(trainer.model, self.losses)

        def note(batch: Batch) -> None:
            labels.note(batch.ids, batch.labels, batch.attended)
            answers.note(batch)

        with _each_batch(trainer, note):
            yield answers


@contextmanager
def listening(trainer: Any, labels: LabelLog) -> Iterator[None]:
    """While open, note the labels of every batch for which `trainer` computes a loss. The model receives no labels."""
    with _each_batch(trainer, lambda batch: labels.note(batch.ids, batch.labels, batch.attended)):
        yield


@contextmanager
def _each_batch(trainer: Any, note: Callable[[Batch], None]) -> Iterator[None]:
    """While open, call `note` with every batch before its loss is computed, in training and in an evaluation."""
    original = trainer.get_batch_loss_metrics

    @functools.wraps(original)
    def noted(model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        note(batch_of(batch))
        return original(model, batch, *args, **kwargs)

    trainer.get_batch_loss_metrics = noted
    try:
        yield
    finally:
        del trainer.get_batch_loss_metrics


def batch_of(batch: Mapping[str, Any]) -> Batch:
    """The sequences of a batch of the trainer, pair by pair.

    Raises:
        KeyError: the format of the batch is unknown.
    """
    pairs = preference.pairs_of(batch)
    return Batch(*(torch.stack(p.chunk(2), dim=1).flatten(0, 1) for p in (pairs.ids, pairs.labels, pairs.attended)))


def log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each label, [sequences, tokens - 1]; 0 where there is none."""
    kept, wanted = logits[:, :-1].float(), labels[:, 1:].to(logits.device)
    return -nn.functional.cross_entropy(kept.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)


def means(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean of `values` over the labels of each sequence, [sequences]."""
    return values.sum(dim=1) / (labels[:, 1:] != IGNORED).sum(dim=1).to(values.device)


class PairLog:
    """Which completion of each pair `model` finds likelier in an evaluation, and the loss by its definition."""

    def __init__(self, model: nn.Module, losses: Callable[[torch.Tensor, Batch], torch.Tensor]) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of a forward on the first batch."""
        self._model, self._of = model, losses
        self._losses: list[float] = []
        self._likelier: list[bool] = []

    def note(self, batch: Batch) -> None:
        """Add one batch."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attended}
        self.first = self.first or inputs
        logits = asked_again(self._model, inputs)
        self._losses += self._of(logits, batch).tolist()
        chosen, rejected = log_likelihoods(logits, batch.labels).sum(dim=1).view(-1, 2).unbind(dim=1)
        self._likelier += (chosen > rejected).tolist()

    def accuracy(self) -> float | None:
        """Share of pairs whose chosen completion is likelier than the rejected one; None without answers."""
        return sum(self._likelier) / len(self._likelier) if self._likelier else None

    def loss(self) -> float | None:
        """Mean loss of the pairs; None without answers."""
        return sum(self._losses) / len(self._losses) if self._losses else None
