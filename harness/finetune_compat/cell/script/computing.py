"""The precision in which a model is loaded and trained, and the precision that the script asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.script.stories import root

_LAYERS = 16
"""Linear layers that are listened to. Single ones, such as a router of experts, are kept in float32 on purpose."""


def asked_of(arguments: Any) -> str:
    """The data type that a trainer's arguments ask to compute in; empty if they ask for none."""
    names = {"bf16": "bfloat16", "fp16": "float16"}
    return next((dtype for name, dtype in names.items() if getattr(arguments, name, False) is True), "")


@contextmanager
def listening(model: nn.Module) -> Iterator[set[str]]:
    """While open, the set gets the data types that linear layers of `model` give in training."""
    found: set[str] = set()

    def hear(module: nn.Module, args: Any, output: Any) -> None:
        if module.training and torch.is_grad_enabled() and isinstance(output, torch.Tensor):
            found.add(_name(output.dtype))

    # Subclasses, such as those of bitsandbytes, give their result in the type of their input.
    layers = [module for module in root(model).modules() if type(module) is nn.Linear]
    chosen = layers[:: max(1, len(layers) // _LAYERS)][:_LAYERS]
    handles = [layer.register_forward_hook(hear) for layer in chosen]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def load_asked(options: dict[str, Any]) -> str:
    """The data type that the options of `from_pretrained` ask for; empty if they ask for none."""
    asked = options.get("dtype", options.get("torch_dtype"))
    if isinstance(asked, torch.dtype):
        return _name(asked)
    plain = isinstance(asked, str) and isinstance(getattr(torch, asked, None), torch.dtype)
    return str(asked) if plain else ""


def dtypes_of(model: nn.Module) -> tuple[str, ...]:
    """The data types of the floating point weights of `model`."""
    return tuple(sorted({_name(p.dtype) for p in model.parameters() if p.is_floating_point()}))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
