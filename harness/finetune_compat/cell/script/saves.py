"""Compare a saved adapter with what training changed outside the adapters: heads, norms, biases, embeddings."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_compat.cell.instruments.census import has_adapters, is_adapter
from finetune_compat.contract.script import SavedAdapter

_LENGTH = 8
"""Bytes at the beginning of a safetensors file that hold the length of its header."""

Changed = tuple[weakref.ref[nn.Parameter], ...]
"""Parameters that training changed. Weak, so that the script can free the model."""


class Outside:
    """The trainable parameters of `model` that are in no adapter, before training. Empty for a model without adapters,
    and for one whose adapters are virtual tokens.
    """

    def __init__(self, model: nn.Module) -> None:
        apart = has_adapters(model) and not _has_virtual_tokens(model)
        named = model.named_parameters() if apart else ()
        self._before = [(p, _sums(p)) for name, p in named if p.requires_grad and not is_adapter(name)]

    def changed(self) -> Changed:
        """Those that changed."""
        return tuple(weakref.ref(parameter) for parameter, before in self._before if _sums(parameter) != before)


def _has_virtual_tokens(model: nn.Module) -> bool:
    configs = (getattr(module, "peft_config", None) for module in model.modules())
    found = (config for one in configs if isinstance(one, dict) for config in one.values())
    return any(getattr(config, "is_prompt_learning", False) for config in found)


def _sums(parameter: torch.Tensor) -> tuple[float, float]:
    """Two sums over all elements. Every step of an optimizer changes them."""
    values = parameter.detach()
    return float(values.sum(dtype=torch.float64)), float(torch.linalg.vector_norm(values, dtype=torch.float64))


def compared(model: nn.Module, directory: Path, changed: Changed) -> SavedAdapter | None:
    """Which of `changed` the adapter saved in `directory` lacks; None if `model` holds none of them, or if there is no
    file.

    Args:
        model: the PeftModel that was saved.
        directory: where its files are.
        changed: parameters that training changed.
    """
    wanted = {id(reference()) for reference in changed}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in wanted]
    adapters = tuple(getattr(model, "peft_config", {}))
    places = (directory, *(directory / name for name in adapters))
    files = [
        file for place in places for file in place.glob("adapter_model.*") if file.suffix in (".safetensors", ".bin")
    ]
    if not names or not files:
        return None
    saved = {_plain(key, adapters) for file in files for key in _keys(file)}
    return SavedAdapter(trained=len(names), missing=tuple(n for n in names if _plain(n, adapters) not in saved))


def _keys(file: Path) -> Iterator[str]:
    if file.suffix == ".bin":
        yield from torch.load(file, map_location="cpu", weights_only=True)
        return
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_LENGTH), "little")
        header: Mapping[str, Any] = json.loads(opened.read(length))
    yield from (key for key in header if key != "__metadata__")


def _plain(name: str, adapters: tuple[str, ...]) -> str:
    """`name` without the parts that PEFT adds in memory and leaves out in a file."""
    inserted = {"base_layer", "modules_to_save", "original_module", *adapters}
    return ".".join(part for part in name.split(".") if part not in inserted)
