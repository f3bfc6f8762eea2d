"""Measure how a later token and padding change the logits of a causal model: they should change no earlier logit."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finetune_compat.cell.instruments.batches import asked_again
from finetune_compat.contract.records import Forward

_LEFT, _RIGHT = 3, 4
"""Padding on each side of a row."""


def measured(model: nn.Module, inputs: dict[str, Any], logits: torch.Tensor, pad: int) -> Forward:
    """The measurements on one batch without padding.

    Args:
        model: a causal language model.
        inputs: keyword arguments of its forward.
        logits: its logits for `inputs`, [rows, tokens, vocabulary].
        pad: the padding token.
    """
    ids = inputs["input_ids"]
    other = ids.clone()
    other[:, -1] = torch.where(ids[:, -1] == 0, 1, 0)
    moved = (asked_again(model, {**inputs, "input_ids": other}) - logits).abs()
    padded = asked_again(model, _padded(inputs, pad))[:, _LEFT:-_RIGHT]
    return Forward(
        spread=float(logits.std()),
        earlier=float(moved[:, :-1].max()),
        last=float(moved[:, -1].max()),
        padded=float((padded - logits).abs().max()),
    )


def _padded(inputs: dict[str, Any], pad: int) -> dict[str, Any]:
    """`inputs` with padding in every argument that has one value per token."""
    ids = inputs["input_ids"]
    masked = {"attention_mask": torch.ones_like(ids), **inputs}
    # Positions are left to the model, which counts them by itself.
    return {
        name: _wider(value, pad if name == "input_ids" else 0)
        if isinstance(value, torch.Tensor) and value.shape == ids.shape
        else value
        for name, value in masked.items()
        if name != "position_ids"
    }


def _wider(values: torch.Tensor, fill: int) -> torch.Tensor:
    return nn.functional.pad(values, (_LEFT, _RIGHT), value=fill)
