"""Faults of the rows, their order, and their labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from datasets import concatenate_datasets
from effects import labels_are, order_is, same_order
from finetune_compat.cell.data import EOS, IGNORED, PAD
from registry import ADAPTER, COMPLETIONS, PLAIN_TRAINER, around, fault
from torch.utils.data import Sampler, SequentialSampler
from transformers import DataCollatorForSeq2Seq, Trainer
from truth import Truth


class _Order(Sampler[int]):
    """Rows in the orders that `draw(epoch)` returns."""

    def __init__(self, draw: Any, size: int) -> None:
        self._draw, self._size, self._epoch = draw, size, 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        self._epoch += 1
        return iter(self._draw(self._epoch))


def _sample(patch: pytest.MonkeyPatch, sampler: Any) -> None:
    """Train on the rows of `sampler(trainer)`."""
    around(patch, Trainer, "_get_train_sampler", lambda original, trainer, *args: sampler(trainer))


def _drawn(size: int, seed: int) -> list[int]:
    return [int(row) for row in torch.randperm(size, generator=torch.Generator().manual_seed(seed))]


@fault(
    kind="order ignores the seed",
    source="https://github.com/huggingface/transformers/issues/11389",
    cell=ADAPTER,
    effect=same_order,
    other_seed=True,
)
def order_of_default_seed(patch: pytest.MonkeyPatch) -> None:
    """The sampler is never given the seed, and draws the same orders in every run."""
    _sample(patch, lambda trainer: _Order(lambda epoch: _drawn(64, epoch), 64))


@fault(
    kind="rows not shuffled",
    source="https://github.com/Nerogar/OneTrainer/issues/96",
    cell=ADAPTER,
    effect=order_is(lambda order: order[:64] == list(range(64)), "rows come in the order of the data set"),
)
def rows_not_shuffled(patch: pytest.MonkeyPatch) -> None:
    """Rows are trained in the order in which they are stored."""
    _sample(patch, lambda trainer: SequentialSampler(trainer.train_dataset))


@fault(
    kind="rows not shuffled again",
    source="https://github.com/lucidrains/DALLE-pytorch/pull/230",
    cell=ADAPTER,
    effect=order_is(lambda order: order[64:] == order[:16], "the second epoch repeats the order of the first"),
)
def same_order_in_every_epoch(patch: pytest.MonkeyPatch) -> None:
    """The sampler never learns of a new epoch, and every epoch has the order of the first."""
    _sample(patch, lambda trainer: _Order(lambda epoch: _drawn(64, trainer.args.seed), 64))


@fault(
    kind="rows repeated",
    source="https://github.com/huggingface/accelerate/issues/2316",
    cell=ADAPTER,
    effect=order_is(lambda order: len(set(order[:64])) < 64, "rows are trained twice in an epoch, and others never"),
)
def first_rows_repeated_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """The last batch of an epoch holds the rows of the first once more, instead of its own."""

    def draw(epoch: int) -> list[int]:
        order = _drawn(64, torch.initial_seed() % 2**31 + epoch)
        return [*order[:56], *order[:8]]

    _sample(patch, lambda trainer: _Order(draw, 64))


@fault(
    kind="rows dropped",
    source="https://github.com/huggingface/transformers/pull/47340",
    cell=ADAPTER,
    effect=order_is(lambda order: len(set(order)) <= 32, "half of the rows are never trained"),
)
def half_of_the_rows_dropped(patch: pytest.MonkeyPatch) -> None:
    """The sampler drops half of the rows, and the run repeats the others."""

    def draw(epoch: int) -> list[int]:
        return [row for row in _drawn(64, torch.initial_seed() % 2**31 + epoch) if row < 32]

    _sample(patch, lambda trainer: _Order(draw, 32))


def _shorter(healthy: Truth, faulty: Truth) -> str | None:
    lengths = [{batch.ids.shape[1] for batch in truth.batches} for truth in (healthy, faulty)]
    return f"rows have {lengths[1]} tokens instead of {lengths[0]}" if max(lengths[1]) < min(lengths[0]) else None


@fault(
    kind="rows truncated",
    source="https://github.com/unslothai/unsloth/issues/2904",
    cell=ADAPTER,
    effect=_shorter,
)
def rows_truncated_at_another_length(patch: pytest.MonkeyPatch) -> None:
    """Training rows are cut at a length of the library's own, below the one that was asked for."""

    def step(original: Any, trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return original(trainer, model, {name: value[:, :16] for name, value in inputs.items()}, *args, **kwargs)

    around(patch, Trainer, "training_step", step)


def _trains_on_held_out(healthy: Truth, faulty: Truth) -> str | None:
    seen = [len(set(truth.rows()) & truth.held_out) for truth in (healthy, faulty)]
    return f"{seen[1]} rows of the evaluation set are trained" if seen[1] and not seen[0] else None


@fault(
    kind="evaluation rows in training",
    source="https://github.com/karpathy/llm.c/pull/500",
    cell=ADAPTER,
    effect=_trains_on_held_out,
)
def evaluation_rows_trained(patch: pytest.MonkeyPatch) -> None:
    """Rows of the evaluation set take the place of training rows."""

    def loader(original: Any, trainer: Any) -> Any:
        train = trainer.train_dataset
        kept = train.select(range(len(trainer.eval_dataset), len(train)))
        trainer.train_dataset = concatenate_datasets([trainer.eval_dataset, kept])
        try:
            return original(trainer)
        finally:
            trainer.train_dataset = train

    around(patch, Trainer, "get_train_dataloader", loader)


def _evaluates_training_rows(healthy: Truth, faulty: Truth) -> str | None:
    shares = []
    for truth in (healthy, faulty):
        rows = {tuple(row) for batch in truth.evaluated for row in batch.ids.tolist()}
        shares.append(len(rows & set(truth.rows())) / len(rows))
    return f"{shares[1]:.0%} of the evaluated rows are trained" if shares[1] > shares[0] else None


@fault(
    kind="evaluation on training rows",
    source="https://github.com/luxonis/luxonis-train/pull/213",
    cell=ADAPTER,
    effect=_evaluates_training_rows,
)
def training_rows_evaluated(patch: pytest.MonkeyPatch) -> None:
    """The evaluation reads rows of the training set."""

    def loader(original: Any, trainer: Any, rows: Any = None) -> Any:
        return original(trainer, trainer.train_dataset.select(range(len(trainer.eval_dataset))))

    around(patch, Trainer, "get_eval_dataloader", loader)


# ------------------------------------------------------------------------------------------------------------- labels


def _relabel(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Train and evaluate with the labels `change(ids, labels)`."""

    def prepare(original: Any, trainer: Any, inputs: Any) -> Any:
        found = original(trainer, inputs)
        return {**found, "labels": change(found["input_ids"], found["labels"].clone())}

    around(patch, Trainer, "_prepare_inputs", prepare)


def _shifted(labels: torch.Tensor, by: int) -> torch.Tensor:
    moved = labels.roll(by, dims=1)
    moved[:, -1 if by < 0 else 0] = IGNORED
    return moved


@fault(
    kind="labels shifted once too often",
    source="https://github.com/huggingface/transformers/pull/44642",
    cell=PLAIN_TRAINER,
    effect=labels_are(lambda ids, labels: torch.equal(labels[:, :-1], ids[:, 1:]), "labels are one token ahead"),
)
def labels_shifted_twice(patch: pytest.MonkeyPatch) -> None:
    """Labels are shifted before the model shifts them: it learns the token after the next."""
    _relabel(patch, lambda ids, labels: _shifted(labels, -1))


@fault(
    kind="labels not shifted",
    source="https://github.com/huggingface/transformers/issues/27161",
    cell=ADAPTER,
    effect=labels_are(lambda ids, labels: torch.equal(labels[:, 1:], ids[:, :-1]), "each token is its own label"),
)
def labels_not_shifted(patch: pytest.MonkeyPatch) -> None:
    """Labels are not shifted against the logits: the model learns to repeat its input."""
    _relabel(patch, lambda ids, labels: _shifted(labels, 1))


@fault(
    kind="labels of the prompt learned",
    source="https://github.com/huggingface/trl/issues/3279",
    cell=COMPLETIONS,
    effect=labels_are(lambda ids, labels: torch.equal(labels, ids), "prompt tokens have labels"),
)
def prompt_learned(patch: pytest.MonkeyPatch) -> None:
    """The mask of the prompt is ignored, and its tokens count in the loss."""
    _relabel(patch, lambda ids, labels: ids.clone())


@fault(
    kind="completion not learned",
    source="https://github.com/huggingface/transformers/issues/26357",
    cell=COMPLETIONS,
    effect=labels_are(lambda ids, labels: bool((labels[:, -5:] == IGNORED).all()), "the last tokens have no label"),
)
def end_of_the_completion_masked(patch: pytest.MonkeyPatch) -> None:
    """The collator overwrites the user's labels with a mask of its own, which hides the end of every completion."""

    def masked(ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        labels[:, -5:] = IGNORED
        return labels

    _relabel(patch, masked)


@fault(
    kind="labels of padding learned",
    source="https://github.com/huggingface/transformers/issues/32832",
    cell=COMPLETIONS,
    effect=labels_are(lambda ids, labels: bool((labels == PAD).any()), "padding has labels"),
)
def padding_learned(patch: pytest.MonkeyPatch) -> None:
    """The collator pads rows to a multiple of eight tokens, and the padding counts in the loss."""

    def collate(original: Any, collator: Any, rows: Any, *args: Any, **kwargs: Any) -> Any:
        batch = original(collator, rows, *args, **kwargs)
        missing = -batch["input_ids"].shape[1] % 8
        fills = {"input_ids": PAD, "labels": PAD, "attention_mask": 0}
        for name in batch:
            batch[name] = torch.nn.functional.pad(batch[name], (0, missing), value=fills[name])
        return batch

    around(patch, DataCollatorForSeq2Seq, "__call__", collate)


def _no_end_is_learned(ids: torch.Tensor, labels: torch.Tensor) -> bool:
    return bool((ids == EOS).any()) and not bool((labels == EOS).any())


@fault(
    kind="end token never learned",
    source="https://github.com/huggingface/transformers/issues/23530",
    cell=COMPLETIONS,
    effect=labels_are(_no_end_is_learned, "end tokens have no label"),
)
def end_token_masked_as_padding(patch: pytest.MonkeyPatch) -> None:
    """The end token is taken for padding and masked: the model never learns to stop."""
    _relabel(patch, lambda ids, labels: labels.masked_fill(ids == EOS, IGNORED))


@fault(
    kind="end token dropped",
    source="https://github.com/huggingface/trl/issues/931",
    cell=ADAPTER,
    effect=labels_are(lambda ids, labels: not bool((ids == EOS).any()), "rows have no end token"),
    since="0.16.0",
    why_since="SFTTrainer appends no end token to text before TRL 0.16 (trl#3091)",
)
def end_token_not_appended(patch: pytest.MonkeyPatch) -> None:
    """SFTTrainer appends no end token to the rows."""

    def prepare(original: Any, trainer: Any, inputs: Any) -> Any:
        # In an evaluation of TRL 1.6 the batch also holds a flag.
        return {
            name: value[:, :-1] if isinstance(value, torch.Tensor) else value
            for name, value in original(trainer, inputs).items()
        }

    around(patch, Trainer, "_prepare_inputs", prepare)
