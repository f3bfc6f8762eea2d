"""Compare the parameters that an optimizer holds with the trainable parameters. They differ if parameters are frozen or
replaced after the optimizer was created.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from finetune_compat.contract.records import Optimizer


def parameters_held(optimizer: Any) -> dict[int, torch.Tensor]:
    """The parameters that `optimizer` updates, by identity. With one optimizer per layer, the parameters of all."""
    inner = getattr(optimizer, "optimizer", optimizer)  # inside Accelerate's wrapper
    # Transformers' LayerWiseDummyOptimizer holds no parameters itself. It lists the optimizers of the layers.
    each = (getattr(inner, "optimizer_dict", None) or {}).values() or [inner]
    return {id(p): p for one in each for group in one.param_groups for p in group["params"]}


def holdings(model: nn.Module, held: dict[int, torch.Tensor]) -> Optimizer:
    """Number of elements in `held`, of trainable elements of `model` that `held` lacks, and of elements in `held` that
    are not trainable.
    """
    trainable = {id(p): p for p in model.parameters() if p.requires_grad}
    return Optimizer(
        parameters=_elements(held),
        missing=_elements({key: p for key, p in trainable.items() if key not in held}),
        extra=_elements({key: p for key, p in held.items() if key not in trainable}),
    )


def _elements(parameters: dict[int, torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters.values())
