"""Faults of attention, positions and dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from effects import answers_differ, end_is_seen, padding_is_seen, weights_differ
from registry import ADAPTER, PLAIN_TRAINER, around, fault
from transformers import Trainer
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding
from truth import Truth


def _attend(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Call the attention kernel with the mask and the causality that `change(mask, is_causal)` returns."""

    def attend(original: Any, *args: Any, attn_mask: Any = None, is_causal: bool = False, **kwargs: Any) -> Any:
        mask, causal = change(attn_mask, is_causal)
        return original(*args, attn_mask=mask, is_causal=causal, **kwargs)

    around(patch, torch.nn.functional, "scaled_dot_product_attention", attend)


@fault(
    kind="causality broken",
    source="https://github.com/huggingface/transformers/pull/48769",
    cell=PLAIN_TRAINER,
    effect=end_is_seen,
)
def later_tokens_attended(patch: pytest.MonkeyPatch) -> None:
    """Without a mask, attention is not causal: a token sees those after it."""
    _attend(patch, lambda mask, causal: (mask, False))


@fault(
    kind="attention mask ignored",
    source="https://github.com/AI-Hypercomputer/maxtext/issues/878",
    cell=PLAIN_TRAINER,
    effect=padding_is_seen,
)
def padding_attended(patch: pytest.MonkeyPatch) -> None:
    """The kernel ignores the mask of padding and is causal only: padding before a row changes its logits."""
    _attend(patch, lambda mask, causal: (None, True))


@fault(
    kind="position ids wrong",
    source="https://github.com/huggingface/trl/issues/469",
    cell=PLAIN_TRAINER,
    effect=answers_differ("at_start"),
)
def positions_ignored(patch: pytest.MonkeyPatch) -> None:
    """Position ids do not reach the rotary embedding: all tokens have position 0."""

    def rotate(original: Any, module: Any, states: Any, position_ids: Any, *args: Any, **kwargs: Any) -> Any:
        return original(module, states, 0 * position_ids, *args, **kwargs)

    around(patch, Qwen2RotaryEmbedding, "forward", rotate)


@fault(
    kind="dtype cast silently",
    source="https://github.com/huggingface/transformers/issues/25681",
    cell=PLAIN_TRAINER,
    effect=weights_differ,
)
def rotary_frequencies_in_bfloat16(patch: pytest.MonkeyPatch) -> None:
    """The frequencies of the rotary embedding are cast to bfloat16, and positions lose their precision."""

    def rotate(original: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        module.inv_freq = module.inv_freq.bfloat16().float()
        return original(module, *args, **kwargs)

    around(patch, Qwen2RotaryEmbedding, "forward", rotate)


def _never_in_training_mode(healthy: Truth, faulty: Truth) -> str | None:
    modes = [{batch.in_training_mode for batch in truth.batches} for truth in (healthy, faulty)]
    return "the model trains in evaluation mode" if modes == [{True}, {False}] else None


@fault(
    kind="dropout off in training",
    source="https://github.com/shubhamagarwal92/mmd/issues/14",
    cell=ADAPTER,
    effect=_never_in_training_mode,
)
def evaluation_mode_kept_in_training(patch: pytest.MonkeyPatch) -> None:
    """The model stays in evaluation mode after an evaluation and trains without dropout."""

    def step(original: Any, trainer: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        model.eval()
        model.train = lambda mode=True: model
        try:
            return original(trainer, model, *args, **kwargs)
        finally:
            del model.train

    around(patch, Trainer, "training_step", step)


def _evaluations_differ(healthy: Truth, faulty: Truth) -> str | None:
    right, wrong = (truth.eval_losses()[2:] for truth in (healthy, faulty))  # before training LoRA adds 0
    return f"two evaluations give {wrong}" if right[0] == right[1] and wrong[0] != wrong[1] else None


@fault(
    kind="dropout on in evaluation",
    source="https://github.com/IBM/pytorch-seq2seq/issues/33",
    cell=ADAPTER,
    effect=_evaluations_differ,
)
def training_mode_kept_in_evaluation(patch: pytest.MonkeyPatch) -> None:
    """The evaluation leaves the model in training mode, and dropout falsifies its loss."""

    def loop(original: Any, trainer: Any, *args: Any, **kwargs: Any) -> Any:
        model = trainer.model
        model.eval = model.train
        try:
            return original(trainer, *args, **kwargs)
        finally:
            del model.eval

    around(patch, Trainer, "evaluation_loop", loop)
