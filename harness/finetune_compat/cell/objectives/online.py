"""Rewards of the model's own completions, with TRL's `GRPOTrainer`: of the completions of one prompt, those with a
higher reward must become likelier (GRPO, arXiv:2402.03300, equations 3 and 4; one update for each generation).

Windows: TRL 0.18.0 has `loss_type`; the completions of a batch are shuffled in 0.22.2 and later.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from finetune_compat.cell import adapt, constructors, data
from finetune_compat.cell.data import IGNORED, MARKS, WORDS
from finetune_compat.cell.instruments.batches import Batch, LabelLog, asked_again, without_adapters
from finetune_compat.cell.instruments.rows import Given
from finetune_compat.cell.setup import Setup
from finetune_compat.contract.catalog import COMPLETION_WORDS, GENERATED_TOKENS, GENERATIONS, ROW_WORDS

BETA = 0.04
"""Weight of the KL term. Above 0, so that the trainer needs a reference; releases differ in their default."""

_PROMPT_WORDS = ROW_WORDS - COMPLETION_WORDS

_NO_DIVISION_BY_ZERO = 1e-4
"""What TRL adds to the standard deviation of the rewards of one prompt, in every release."""


# ---------------------------------------------------------------------------------------------------------------- data


def arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `GRPOTrainer`, without the model: configuration, data, tokenizer, reward function."""
    import trl

    train, held_out = data.texts(setup.seed)
    given = {
        "reward_funcs": mean_word,
        "train_dataset": _prompts(train),
        "eval_dataset": _prompts(held_out),
        "processing_class": _tokenizer(setup),
    }
    asked = {
        "beta": BETA,
        "loss_type": "grpo",
        "num_generations": GENERATIONS,
        "max_completion_length": GENERATED_TOKENS,
        "per_device_train_batch_size": GENERATIONS * setup.rows,
        "temperature": 1.0,
        "disable_dropout": True,
    }
    known = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    # A term of later releases, which equation 4 does not have.
    asked |= {"use_bias_correction_kl": False} if "use_bias_correction_kl" in known else {}
    config = adapt.configured(trl.GRPOConfig, {**adapt.training_options(setup), **asked}, setup)
    return {"args": config, **adapt.named(constructors.options(trl.GRPOTrainer), given, setup)}


def _tokenizer(setup: Setup) -> PreTrainedTokenizerBase:
    """The tokenizer with the outputs that Qwen2's and Llama's have: some releases pass all of them to `generate`."""
    own = copy.deepcopy(setup.model.tokenizer)
    own.model_input_names = ["input_ids", "attention_mask"]
    return own


def _prompt(text: str) -> str:
    return " ".join(text.split(" ")[:_PROMPT_WORDS])


def _prompts(texts: list[str]) -> Dataset:
    return Dataset.from_list([{"prompt": _prompt(text)} for text in texts])


def mean_word(completions: list[str], **_: Any) -> list[float]:
    """The reward of each completion, 0 to 1: the mean number of its words. Completions of one prompt hardly ever have
    the same. Tokens that are no words do not count.
    """
    return [_reward(int(word[1:]) for word in text.split() if word[0] == "w") for text in completions]


def _reward(words: Iterable[int]) -> float:
    numbers = list(words)
    return sum(numbers) / len(numbers) / (WORDS - 1) if numbers else 0.0


class Prompts(Given):
    """Rows that are recognised by their prompts, whatever completions follow."""

    def _core(self, tokens: Iterable[int]) -> tuple[int, ...]:
        return super()._core(tokens)[:_PROMPT_WORDS]


def given(setup: Setup) -> Given:
    """The rows of a flow: as many sequences as the prompt has completions."""
    train, held_out = (tuple((_prompt(text),) * GENERATIONS for text in rows) for rows in data.texts(setup.seed))
    return Prompts(train, held_out, lambda text: setup.model.tokenizer(text)["input_ids"], MARKS)


# -------------------------------------------------------------------------------------------------------------- labels


def batch_of(inputs: Mapping[str, Any]) -> Batch:
    """The prompts and completions of a batch, with labels on the completions; those of one prompt stand together.

    Raises:
        KeyError: the format of the batch is unknown.
    """
    prompts, completions = inputs["prompt_ids"], inputs["completion_ids"]
    prompted, completed = inputs["prompt_mask"], inputs["completion_mask"]
    labels = torch.cat([torch.full_like(prompts, IGNORED), completions.masked_fill(completed == 0, IGNORED)], dim=1)
    order = sorted(range(len(prompts)), key=lambda row: prompts[row].tolist())
    return Batch(
        torch.cat([prompts, completions], dim=1)[order], labels[order], torch.cat([prompted, completed], dim=1)[order]
    )


def listening(trainer: Any, labels: LabelLog) -> AbstractContextManager[None]:
    """While open, note the completions of every batch for which `trainer` computes a loss."""
    return _each_batch(trainer, lambda inputs: _note(labels, batch_of(inputs)))


@contextmanager
def evaluating(trainer: Any, labels: LabelLog) -> Iterator[RewardLog]:
    """As `listening`, for an evaluation; yields the rewards that the model can expect.

    Releases that divide by the number of accumulated batches know it only after training began: 0.22.2 cannot evaluate
    before. They get the number, so that the training is measured.
    """
    if not hasattr(trainer, "current_gradient_accumulation_steps"):
        trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    answers = RewardLog(trainer.model)

    def note(inputs: Mapping[str, Any]) -> None:
        _note(labels, batch_of(inputs))
        answers.note(inputs["prompt_ids"], inputs["prompt_mask"])

    with _each_batch(trainer, note):
        yield answers


def _note(labels: LabelLog, batch: Batch) -> None:
    labels.note(batch.ids, batch.labels, batch.attended)


@contextmanager
def _each_batch(trainer: Any, note: Callable[[Mapping[str, Any]], None]) -> Iterator[None]:
    """While open, call `note` with every batch before its loss is computed."""
    original = trainer.compute_loss

    @functools.wraps(original)
    def noted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        note(inputs)
        return original(model, inputs, *args, **kwargs)

    trainer.compute_loss = noted
    try:
        yield
    finally:
        del trainer.compute_loss


# ---------------------------------------------------------------------------------------------------------------- loss


def loss(model: nn.Module, inputs: dict[str, Any], batch: Batch) -> torch.Tensor:
    """The negative advantage of each token, and the KL term, as a mean over tokens and then over completions."""
    given = {"input_ids": batch.ids, "attention_mask": batch.attended}
    kept, own = batch.labels[:, 1:] != IGNORED, _log_likelihoods(model(**given).logits, batch.labels)
    with torch.no_grad(), without_adapters(model):
        other = _log_likelihoods(model(**given).logits, batch.labels)
    ratio = torch.exp(own - own.detach())
    term = torch.exp(other - own) - (other - own) - 1
    each = BETA * term - ratio * advantages(batch).unsqueeze(1)
    return ((each * kept).sum(dim=1) / kept.sum(dim=1)).mean()


def advantages(batch: Batch) -> torch.Tensor:
    """The reward of each completion, relative to those of the same prompt, in their standard deviations."""
    rewards = torch.tensor([_reward(token for token in row if 0 <= token < WORDS) for row in batch.labels.tolist()])
    groups = rewards.view(-1, GENERATIONS)
    relative = (groups - groups.mean(dim=1, keepdim=True)) / (groups.std(dim=1, keepdim=True) + _NO_DIVISION_BY_ZERO)
    return relative.flatten().to(batch.ids.device)


def _log_likelihoods(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each label, [sequences, tokens - 1]; 0 where there is none."""
    kept, wanted = logits[:, :-1].float(), labels[:, 1:]
    return -nn.functional.cross_entropy(kept.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)


def unequal(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`collate` itself: every completion has the same weight, whatever its number of tokens."""
    return collate


# ------------------------------------------------------------------------------------------------------------- answers


class RewardLog:
    """The reward that the model can expect for the first token of a completion. It is computed, not sampled: so it says
    the same for the same weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.first: dict[str, Any] | None = None
        """Keyword arguments of a forward on the first batch, without completions."""
        self._model = model
        self._rewards: list[float] = []

    def note(self, prompts: torch.Tensor, attended: torch.Tensor) -> None:
        """Add the prompts of one batch, padded on the left."""
        inputs = {"input_ids": prompts, "attention_mask": attended}
        self.first = self.first or inputs
        likely = asked_again(self._model, inputs)[:, -1, :WORDS].softmax(dim=-1)
        self._rewards += (likely @ torch.linspace(0, 1, WORDS)).tolist()

    def accuracy(self) -> float | None:
        """The mean expected reward, 0 to 1; None without answers."""
        return sum(self._rewards) / len(self._rewards) if self._rewards else None

    def loss(self) -> float | None:
        """None: the loss of generated completions is about 0, whatever the model is."""
        return None
