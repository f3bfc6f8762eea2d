"""What an optimizer holds, against what is trainable: the two part where one was made before the other changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finetune_compat.contract.records import Optimizer


def parameters_held(optimizer: Any) -> dict[int, torch.Tensor]:
    """What `optimizer` updates, by identity; where each layer has an optimizer of its own, what all of them do."""
    inner = getattr(optimizer, "optimizer", optimizer)  # as Accelerate wraps it
    # Transformers' LayerWiseDummyOptimizer: a stand-in that holds nothing and lists those that do the work.
    each = (getattr(inner, "optimizer_dict", None) or {}).values() or [inner]
    return {id(p): p for one in each for group in one.param_groups for p in group["params"]}


def holdings(model: nn.Module, held: dict[int, torch.Tensor]) -> Optimizer:
    """What an optimizer holds of `model`, in elements."""
    trainable = {id(p): p for p in model.parameters() if p.requires_grad}
    return Optimizer(
        parameters=_elements(held),
        missing=_elements({key: p for key, p in trainable.items() if key not in held}),
        extra=_elements({key: p for key, p in held.items() if key not in trainable}),
    )


def _elements(parameters: dict[int, torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())
