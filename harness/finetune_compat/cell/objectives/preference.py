"""Direct preference optimisation with TRL's `DPOTrainer`: the chosen completion of a prompt must become likelier than
the rejected one, both relative to the reference model (DPO, arXiv:2305.18290, equation 7).

Windows: TRL 0.9.2 brought `DPOConfig`, 0.12.0 `processing_class` and batches of prompts and completions apart, 0.29.0
batches of whole sequences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from finetune_compat.cell import adapt, data
from finetune_compat.cell.data import IGNORED, MARKS, USED_WORDS
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again, without_adapters
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import COMPLETION_WORDS

BETA = 0.1
"""Weight of the reference in the loss: TRL's default in every release."""


# ---------------------------------------------------------------------------------------------------------------- data


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `DPOTrainer`, without the model: configuration, data, tokenizer."""
    import trl

    train, held_out = data.text_rows(setup.seed)
    given = {
        "train_dataset": _preferences(train),
        "eval_dataset": _preferences(held_out),
        "processing_class": setup.model.tokenizer,
    }
    asked = {"beta": BETA, "loss_type": "sigmoid", "max_length": setup.model.max_length}
    config = adapt.configured(trl.DPOConfig, {**adapt.training_options(setup), **asked}, setup)
    return {"args": config, **adapt.named(adapt.parameters(trl.DPOTrainer.__init__), given, setup)}


def _preferences(rows: Dataset) -> Dataset:
    return Dataset.from_list([_preference(text.split(" ")) for text in rows["text"]])


def _preference(words: list[str]) -> dict[str, str]:
    """A sequence as prompt and chosen completion. The rejected completion has only words that occur in no sequence, so
    that one rule holds for all pairs.
    """
    chosen = words[-COMPLETION_WORDS:]
    rejected = [f"w{int(word[1:]) + USED_WORDS}" for word in chosen]
    return {
        "prompt": " ".join(words[:-COMPLETION_WORDS]),
        "chosen": f" {' '.join(chosen)}",
        "rejected": f" {' '.join(rejected)}",
    }


def given(setup: Setup) -> Given:
    """The rows of a flow: a chosen and a rejected sequence each."""
    train, held_out = (tuple(_pair(text) for text in rows) for rows in data.texts(setup.seed))
    return Given(train, held_out, lambda text: setup.model.tokenizer(text)["input_ids"], MARKS)


def _pair(text: str) -> tuple[str, str]:
    row = _preference(text.split(" "))
    return row["prompt"] + row["chosen"], row["prompt"] + row["rejected"]


# -------------------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True, slots=True)
class Pairs:
    """A batch of sequences, as in the loss. All tensors are [2 * pairs, tokens], chosen sequences first."""

    ids: torch.Tensor
    labels: torch.Tensor
    """-100 for every token that does not count in the loss."""
    attended: torch.Tensor
    """0 for padding."""


def pairs_of(batch: Mapping[str, Any]) -> Pairs:
    """The sequences of a batch of any TRL release.

    Raises:
        KeyError: the format of the batch is unknown.
    """
    if "completion_mask" in batch:
        ids, attended, learned = batch["input_ids"], batch["attention_mask"], batch["completion_mask"]
        return Pairs(ids, ids.masked_fill(learned == 0, IGNORED), attended)
    sides = (_before_0_12 if "chosen_labels" in batch else _before_0_29)(batch)
    return Pairs(*(_stacked(*parts) for parts in zip(*sides, strict=True)))


def _before_0_12(batch: Mapping[str, Any]) -> list[tuple[torch.Tensor, ...]]:
    names = ("input_ids", "labels", "attention_mask")
    return [tuple(batch[f"{side}_{name}"] for name in names) for side in ("chosen", "rejected")]


def _before_0_29(batch: Mapping[str, Any]) -> list[tuple[torch.Tensor, ...]]:
    """Prompts are padded on the left and completions on the right."""
    prompt, prompted = batch["prompt_input_ids"], batch["prompt_attention_mask"]
    sides = []
    for side in ("chosen", "rejected"):
        ids, attended = batch[f"{side}_input_ids"], batch[f"{side}_attention_mask"]
        labels = torch.cat([torch.full_like(prompt, IGNORED), ids.masked_fill(attended == 0, IGNORED)], dim=1)
        sides.append((torch.cat([prompt, ids], dim=1), labels, torch.cat([prompted, attended], dim=1)))
    return sides


def _stacked(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Both sides in one tensor. The shorter side is padded on the right with positions that are neither attended to nor
    counted in the loss.
    """
    longest = max(chosen.shape[1], rejected.shape[1])
    return torch.cat([nn.functional.pad(side, (0, longest - side.shape[1])) for side in (chosen, rejected)])


def listening(trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
    """While open, note the labels of every batch for which `trainer` computes a loss. The model receives no labels."""
    return _each_batch(trainer, lambda pairs: _note(labels, pairs))


@contextmanager
def evaluating(trainer: Any, labels: LabelLog) -> Iterator[PreferenceLog]:
    """As `listening`, for an evaluation; yields which completions the model prefers."""
    answers = PreferenceLog(trainer.model)

    def note(pairs: Pairs) -> None:
        _note(labels, pairs)
        answers.note(pairs)

    with _each_batch(trainer, note):
        yield answers


def loss(model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
    """Mean of -log sigmoid of the margins of `batch`, whose chosen and rejected sequences alternate."""
    labels = _placed(batch, inputs)
    policy = _log_likelihoods(model(**inputs).logits, labels)
    with torch.no_grad(), without_adapters(model):
        reference = _log_likelihoods(model(**inputs).logits, labels)
    chosen, rejected = (policy - reference).chunk(2)
    return nn.functional.softplus(-BETA * (chosen - rejected)).mean()


def _placed(batch: Batch, inputs: dict[str, Any]) -> torch.Tensor:
    """The labels of `batch` at the positions of the forward's arguments: chosen sequences first, and other padding."""
    ids = inputs["input_ids"]
    attended = inputs.get("attention_mask", torch.ones_like(ids)).bool()
    noted = torch.ones_like(batch.ids).bool() if batch.attended is None else batch.attended.bool()
    placed = torch.full_like(ids, IGNORED)
    for place, row in enumerate([*range(0, len(ids), 2), *range(1, len(ids), 2)]):
        placed[place, attended[place]] = batch.labels[row, noted[row]]
    return placed


def _log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of the labels of each sequence, [sequences]."""
    kept, wanted = logits[:, :-1].float(), labels[:, 1:]
    return -nn.functional.cross_entropy(kept.transpose(1, 2), wanted, reduction="none").sum(dim=1)


def _note(labels: LabelLog, pairs: Pairs) -> None:
    """Pair by pair, so that rows are noted in one order, however many of them make a batch."""
    labels.note(
        *(torch.stack(part.chunk(2), dim=1).flatten(0, 1) for part in (pairs.ids, pairs.labels, pairs.attended))
    )


def unequal(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`collate` itself: the loss is a mean over pairs, whose weight does not depend on their number of labels."""
    return collate


@contextmanager
def _each_batch(trainer: Any, note: Callable[[Pairs], None]) -> Iterator[None]:
    """While open, call `note` with every batch before its loss is computed. Up to TRL 0.28 an evaluation does not call
    `compute_loss`, but `get_batch_loss_metrics`.
    """
    name = "get_batch_loss_metrics" if hasattr(trainer, "get_batch_loss_metrics") else "compute_loss"
    original = getattr(trainer, name)

    @functools.wraps(original)
    def noted(model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        note(pairs_of(batch))
        return original(model, batch, *args, **kwargs)

    setattr(trainer, name, noted)
    try:
        yield
    finally:
        delattr(trainer, name)


# ------------------------------------------------------------------------------------------------------------- answers


class PreferenceLog:
    """Which completions the model prefers in an evaluation, relative to its reference, and the loss by its definition.
    The reference is `model`, a PeftModel, with its adapters disabled.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of a forward on the first batch."""
        self._model = model
        self._margins: list[float] = []

    def note(self, pairs: Pairs) -> None:
        """Add one batch."""
        inputs = {"input_ids": pairs.ids, "attention_mask": pairs.attended}
        self.first = self.first or inputs
        gained = self._likelihoods(inputs, pairs.labels)
        with without_adapters(self._model):
            gained -= self._likelihoods(inputs, pairs.labels)
        chosen, rejected = gained.chunk(2)
        self._margins += (BETA * (chosen - rejected)).tolist()

    def _likelihoods(self, inputs: dict[str, Any], labels: torch.Tensor) -> torch.Tensor:
        """Log-likelihood of the labels of each sequence, [2 * pairs]."""
        return _log_likelihoods(asked_again(self._model, inputs), labels.cpu())

    def accuracy(self) -> float | None:
        """Share of pairs in which the chosen completion gained on the rejected one; None without answers."""
        return sum(margin > 0 for margin in self._margins) / len(self._margins) if self._margins else None

    def loss(self) -> float | None:
        """Mean of -log sigmoid of the margins; None without answers."""
        if not self._margins:
            return None
        return float(nn.functional.softplus(-torch.tensor(self._margins, dtype=torch.float64)).mean())
