"""Kahneman-Tversky optimisation with TRL's `KTOTrainer`: desirable completions must become likelier and the others less
likely, both relative to the reference model and to a KL term (KTO, arXiv:2402.01306, equation 7).

Windows: TRL 0.12.0 brought `processing_class`; a batch has names with `completion_` until 1.7, and from 1.6 on a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import nn

from finetune_compat.cell import adapt, constructors, data
from finetune_compat.cell.data import IGNORED, MARKS, USED_WORDS
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again, without_adapters
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import COMPLETION_WORDS

BETA = 0.1
"""Weight of the reference in the loss: TRL's default in every release."""

_UNUSED = frozenset(range(USED_WORDS, 2 * USED_WORDS))
"""Tokens of undesirable completions, which occur in no sequence: a word is the token of its number."""


# ---------------------------------------------------------------------------------------------------------------- data


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `KTOTrainer`, without the model: configuration, data, tokenizer."""
    import trl

    train, held_out = data.texts(setup.seed)
    given = {
        "train_dataset": _rows(train),
        "eval_dataset": _rows(held_out),
        "processing_class": setup.model.tokenizer,
    }
    asked = {"beta": BETA, "max_length": setup.model.max_length, "desirable_weight": 1.0, "undesirable_weight": 1.0}
    config = adapt.configured(trl.KTOConfig, {**adapt.training_options(setup), **asked}, setup)
    return {"args": config, **adapt.named(constructors.options(trl.KTOTrainer), given, setup)}


def _rows(texts: list[str]) -> Dataset:
    return Dataset.from_list([_row(place, text) for place, text in enumerate(texts)])


def _row(place: int, text: str) -> dict[str, Any]:
    """A sequence as prompt and desirable completion; in every other row the completion has only words that occur in no
    sequence, and is undesirable. So every batch has both.
    """
    words, desirable = text.split(" "), place % 2 == 0
    completion = words[-COMPLETION_WORDS:]
    if not desirable:
        completion = [f"w{int(word[1:]) + USED_WORDS}" for word in completion]
    return {
        "prompt": " ".join(words[:-COMPLETION_WORDS]),
        "completion": f" {' '.join(completion)}",
        "label": desirable,
    }


def given(setup: Setup) -> Given:
    """The rows of a flow: one sequence each."""
    train, held_out = (
        tuple((row["prompt"] + row["completion"],) for row in (_row(*each) for each in enumerate(rows)))
        for rows in data.texts(setup.seed)
    )
    return Given(train, held_out, lambda text: setup.model.tokenizer(text)["input_ids"], MARKS)


# -------------------------------------------------------------------------------------------------------------- labels


def batch_of(batch: Mapping[str, Any]) -> Batch:
    """The sequences of a batch of any TRL release, with labels on the completions.

    Raises:
        KeyError: the format of the batch is unknown.
    """
    name = "completion_" if "completion_input_ids" in batch else ""
    ids, attended = batch[f"{name}input_ids"], batch[f"{name}attention_mask"]
    if "completion_mask" in batch:
        return Batch(ids, ids.masked_fill(batch["completion_mask"] == 0, IGNORED), attended)
    return Batch(ids, batch["completion_labels"], attended)


def listening(trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
    """While open, note the labels of every batch for which `trainer` computes a loss. The model receives no labels."""
    return _each_batch(trainer, lambda batch: labels.note(batch.ids, batch.labels, batch.attended))


@contextmanager
def evaluating(trainer: Any, labels: LabelLog) -> Iterator[UnpairedLog]:
    """As `listening`, for an evaluation; yields how likely the completions are to the model."""
    answers = UnpairedLog(trainer.model)

    def note(batch: Batch) -> None:
        labels.note(batch.ids, batch.labels, batch.attended)
        answers.note(batch)

    with _each_batch(trainer, note):
        yield answers


@contextmanager
def _each_batch(trainer: Any, note: Callable[[Batch], None]) -> Iterator[None]:
    """While open, call `note` with every batch before its loss is computed. Where `get_batch_loss_metrics` exists, an
    evaluation does not call `compute_loss`.
    """
    name = "get_batch_loss_metrics" if hasattr(trainer, "get_batch_loss_metrics") else "compute_loss"
    original = getattr(trainer, name)

    @functools.wraps(original)
    def noted(model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        note(batch_of(batch))
        return original(model, batch, *args, **kwargs)

    setattr(trainer, name, noted)
    try:
        yield
    finally:
        delattr(trainer, name)


# ---------------------------------------------------------------------------------------------------------------- loss


def loss(model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
    """Mean of 1 - sigmoid of the gains of `batch` over the KL term, which has no gradient."""

    def likelihoods(each: Batch) -> torch.Tensor:
        return _log_likelihoods(model(input_ids=each.ids, attention_mask=each.attended).logits, each.labels)

    shuffled = mismatched(batch)
    with torch.no_grad():
        term = likelihoods(shuffled)
        with without_adapters(model):
            term, reference = term - likelihoods(shuffled), likelihoods(batch)
    gains = likelihoods(batch) - reference
    return _losses(gains, term.mean().clamp(min=0), desirable(batch)).mean()


def _losses(gains: torch.Tensor, term: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return 1 - torch.sigmoid(BETA * torch.where(wanted, gains - term, term - gains))


def desirable(batch: Batch) -> torch.Tensor:
    """Whether each completion is desirable, [sequences], by the words that it consists of."""
    rows = [any(token in _UNUSED for token in row) for row in batch.labels.tolist()]
    return ~torch.tensor(rows, device=batch.ids.device)


def mismatched(batch: Batch) -> Batch:
    """Every prompt with the completion of the row before it, the first with that of the last: on such pairs the KL term
    is estimated.
    """
    prompts, completions = zip(*map(_split, *_lists(batch)), strict=True)
    pairs = list(zip(prompts, (completions[-1], *completions[:-1]), strict=True))
    longest = max(len(prompt) + len(completion) for prompt, completion in pairs)
    ids, labels, attended = [], [], []
    for prompt, completion in pairs:
        left = longest - len(prompt) - len(completion)
        ids.append([*prompt, *completion, *[0] * left])
        labels.append([*[IGNORED] * len(prompt), *completion, *[IGNORED] * left])
        attended.append([*[1] * (longest - left), *[0] * left])
    return Batch(*(torch.tensor(rows, device=batch.ids.device) for rows in (ids, labels, attended)))


def _lists(batch: Batch) -> list[list[list[int]]]:
    attended = torch.ones_like(batch.ids) if batch.attended is None else batch.attended
    return [part.tolist() for part in (batch.ids, batch.labels, attended)]


def _split(ids: list[int], labels: list[int], attended: list[int]) -> tuple[list[int], list[int]]:
    """Prompt and completion of one row, without padding."""
    kept = [(token, label) for token, label, is_kept in zip(ids, labels, attended, strict=True) if is_kept]
    return [token for token, label in kept if label == IGNORED], [token for token, label in kept if label != IGNORED]


def _log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of the labels of each sequence, [sequences]."""
    kept, wanted = logits[:, :-1].float(), labels[:, 1:].to(logits.device)
    return -nn.functional.cross_entropy(kept.transpose(1, 2), wanted, reduction="none").sum(dim=1)


def unequal(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`collate` itself: the loss is a mean over rows, whose weight does not depend on their number of labels."""
    return collate


# ------------------------------------------------------------------------------------------------------------- answers


class UnpairedLog:
    """How likely completions are to the model in an evaluation, relative to its reference, and the loss by its
    definition. The reference is `model`, a PeftModel, with its adapters disabled.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of a forward on the first batch."""
        self._model = model
        self._losses: list[float] = []
        self._right: list[bool] = []

    def note(self, batch: Batch) -> None:
        """Add one batch."""
        self.first = self.first or {"input_ids": batch.ids, "attention_mask": batch.attended}
        gains, term = self._gains(batch), self._gains(mismatched(batch)).mean().clamp(min=0)
        wanted = desirable(batch).cpu()
        self._losses += _losses(gains, term, wanted).tolist()
        self._right += ((gains > 0) == wanted).logical_and(gains != 0).tolist()

    def _gains(self, batch: Batch) -> torch.Tensor:
        """How much likelier the labels of each sequence are than to the reference, as a logarithm, [sequences]."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.attended}
        found = _log_likelihoods(asked_again(self._model, inputs), batch.labels.cpu())
        with without_adapters(self._model):
            return found - _log_likelihoods(asked_again(self._model, inputs), batch.labels.cpu())

    def accuracy(self) -> float | None:
        """Share of rows whose likelihood changed in the right direction; None without answers."""
        return sum(self._right) / len(self._right) if self._right else None

    def loss(self) -> float | None:
        """Mean of 1 - sigmoid of the gains over the KL term; None without answers."""
        return sum(self._losses) / len(self._losses) if self._losses else None
