"""Reward modelling with TRL's `RewardTrainer`: the score of the chosen sequence of two must exceed that of the rejected
one (Bradley-Terry; InstructGPT, arXiv:2203.02155, equation 1).

Windows: TRL 0.9.6 does not tokenize, 0.16.1 does, 0.24.0 brought batches of whole sequences in place of two sides.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from finetune_compat.cell import adapt, constructors, data
from finetune_compat.cell.data import IGNORED, MARKS, USED_WORDS
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import COMPLETION_WORDS

SCORE_SPREAD = 0.05
"""Standard deviation of the weights of the new head: that of all other weights of a tiny model."""

_IN_ONE_BACKWARD = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
"""With reentrant checkpointing a gradient arrives in as many parts as a step has forwards, two up to TRL 0.23, and the
norm could not be measured at the tensors.
"""

Sequences = tuple[torch.Tensor, torch.Tensor]
"""Ids and attention mask, [2 * pairs, tokens], chosen sequences first."""


# --------------------------------------------------------------------------------------------------------------- model


def with_score(setup: Setup) -> Setup:
    """`setup` with a model that has a score head in place of the head for tokens. The head's weights follow from the
    seed: those that a release draws would depend on the release.
    """
    model = AutoModelForSequenceClassification.from_pretrained(setup.model.place, num_labels=1)
    generator = torch.Generator().manual_seed(setup.seed)
    weight = model.score.weight
    weight.data = (torch.randn(weight.shape, generator=generator) * SCORE_SPREAD).to(weight.dtype)
    place = setup.scratch / "scored"
    model.save_pretrained(place)
    loader: Any = AutoModelForSequenceClassification
    return dataclasses.replace(setup, model=dataclasses.replace(setup.model, loader=loader, place=str(place)))


def lora_config(setup: Setup) -> LoraConfig:
    """The cell's LoRA configuration for a reward model, as TRL documents it: the new head is trained and saved."""
    return LoraConfig(**{**adapt.lora_options(setup.lora), "task_type": "SEQ_CLS", "modules_to_save": ["score"]})


# ---------------------------------------------------------------------------------------------------------------- data


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `RewardTrainer`, without the model: configuration, data, tokenizer."""
    import trl

    rows = _tokenized if _takes_tokens() else _texts
    train, held_out = data.texts(setup.seed)
    given = {
        "train_dataset": rows(train, setup.model.tokenizer),
        "eval_dataset": rows(held_out, setup.model.tokenizer),
        "processing_class": setup.model.tokenizer,
    }
    options = {**adapt.training_options(setup), "max_length": setup.model.max_length, **_IN_ONE_BACKWARD}
    _forget_fields_of_other_configs()
    config = adapt.configured(trl.RewardConfig, options, setup)
    return {"args": config, **adapt.named(constructors.options(trl.RewardTrainer), given, setup)}


def _forget_fields_of_other_configs() -> None:
    """On Transformers 4.50 the import of TRL 0.18's GRPOConfig adds a field to a list that every config of the process
    reads. A cell must not depend on the cells before it.
    """
    import trl
    from transformers import training_args

    fields = getattr(training_args, "_VALID_DICT_FIELDS", [])
    fields[:] = [name for name in fields if name in trl.RewardConfig.__dataclass_fields__]


def _takes_tokens() -> bool:
    """Whether the trainer leaves tokenizing to its user."""
    import trl.trainer.reward_trainer as module

    return hasattr(module, "RewardDataCollatorWithPadding") and not hasattr(module, "_tokenize")


def _pair(text: str) -> tuple[str, str]:
    """A sequence, and the same prompt with a completion of words that occur in no sequence: one rule holds for all
    pairs.
    """
    words = text.split(" ")
    other = [f"w{int(word[1:]) + USED_WORDS}" for word in words[-COMPLETION_WORDS:]]
    return text, " ".join([*words[:-COMPLETION_WORDS], *other])


def _texts(texts: list[str], _: PreTrainedTokenizerBase) -> Dataset:
    return Dataset.from_list([dict(zip(("chosen", "rejected"), _pair(text), strict=True)) for text in texts])


def _tokenized(texts: list[str], tokenize: PreTrainedTokenizerBase) -> Dataset:
    rows = []
    for text in texts:
        sides = zip(("chosen", "rejected"), map(tokenize, _pair(text)), strict=True)
        rows.append({f"{name}_{side}": row[name] for side, row in sides for name in _NAMES})
    return Dataset.from_list(rows)


def given(setup: Setup) -> Given:
    """The rows of a flow: a chosen and a rejected sequence each."""
    train, held_out = (tuple(_pair(text) for text in rows) for rows in data.texts(setup.seed))
    return Given(train, held_out, lambda text: setup.model.tokenizer(text)["input_ids"], MARKS)


# -------------------------------------------------------------------------------------------------------------- labels


def sequences_of(batch: Mapping[str, Any]) -> Sequences:
    """The sequences of a batch of any TRL release.

    Raises:
        KeyError: the format of the batch is unknown.
    """
    if "input_ids_chosen" not in batch:
        return batch["input_ids"], batch["attention_mask"]
    ids, attended = ([batch[f"{name}_{side}"] for side in ("chosen", "rejected")] for name in _NAMES)
    return _stacked(ids), _stacked(attended)


_NAMES = ("input_ids", "attention_mask")


def _stacked(sides: list[torch.Tensor]) -> torch.Tensor:
    longest = max(side.shape[1] for side in sides)
    return torch.cat([nn.functional.pad(side, (0, longest - side.shape[1])) for side in sides])


def scored(ids: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Labels, [sequences, tokens]: the last token of a sequence, at which the model gives its score; otherwise -100."""
    last = (attended * torch.arange(1, ids.shape[1] + 1, device=ids.device)).argmax(dim=1, keepdim=True)
    return torch.full_like(ids, IGNORED).scatter(1, last, ids.gather(1, last))


def listening(trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
    """While open, note every batch for which `trainer` computes a loss."""
    return _each_batch(trainer, lambda sequences: _note(labels, sequences))


@contextmanager
def evaluating(trainer: Any, labels: LabelLog) -> Iterator[ScoreLog]:
    """As `listening`, for an evaluation; yields the scores of the model."""
    answers = ScoreLog(trainer.model)

    def note(sequences: Sequences) -> None:
        _note(labels, sequences)
        answers.note(*sequences)

    with _each_batch(trainer, note):
        yield answers


def loss(model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
    """Mean of -log sigmoid of the difference of scores of `batch`, whose chosen and rejected sequences alternate."""
    scores = model(input_ids=batch.ids, attention_mask=batch.attended).logits.squeeze(-1).float()
    return nn.functional.softplus(scores[1::2] - scores[::2]).mean()


def _note(labels: LabelLog, sequences: Sequences) -> None:
    """Pair by pair, so that rows are noted in one order, however many of them make a batch."""
    ids, attended = (torch.stack(part.chunk(2), dim=1).flatten(0, 1) for part in sequences)
    labels.note(ids, scored(ids, attended), attended)


def unequal(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`collate` itself: the loss is a mean over pairs, whose weight does not depend on their length."""
    return collate


@contextmanager
def _each_batch(trainer: Any, note: Callable[[Sequences], None]) -> Iterator[None]:
    """While open, call `note` with every batch before its loss is computed. Up to TRL 0.23 an evaluation first prints
    scores of a part of its rows, which is left out.
    """
    original, printing = trainer.compute_loss, False

    @functools.wraps(original)
    def noted(model: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if not printing:
            note(sequences_of(batch))
        return original(model, batch, *args, **kwargs)

    def printed(prints: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        nonlocal printing
        printing = True
        try:
            prints(*args, **kwargs)
        finally:
            printing = False

    changed: dict[str, Callable[..., Any]] = {"compute_loss": noted}
    if hasattr(trainer, "visualize_samples"):
        changed["visualize_samples"] = functools.partial(printed, trainer.visualize_samples)
    for name, function in changed.items():
        setattr(trainer, name, function)
    try:
        yield
    finally:
        for name in changed:
            delattr(trainer, name)


# ------------------------------------------------------------------------------------------------------------- answers


class ScoreLog:
    """The scores of a model in an evaluation, and the loss by its definition."""

    first: dict[str, Any] | None = None
    """None: a score has no position, so no logits of tokens can be compared."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._margins: list[float] = []

    def note(self, ids: torch.Tensor, attended: torch.Tensor) -> None:
        """Add one batch, chosen sequences first."""
        scores = asked_again(self._model, {"input_ids": ids, "attention_mask": attended}).squeeze(-1)
        chosen, rejected = scores.chunk(2)
        self._margins += (chosen - rejected).tolist()

    def accuracy(self) -> float | None:
        """Share of pairs in which the chosen sequence has the higher score; None without answers."""
        return sum(margin > 0 for margin in self._margins) / len(self._margins) if self._margins else None

    def loss(self) -> float | None:
        """Mean of -log sigmoid of the differences; None without answers."""
        if not self._margins:
            return None
        return float(nn.functional.softplus(-torch.tensor(self._margins, dtype=torch.float64)).mean())
