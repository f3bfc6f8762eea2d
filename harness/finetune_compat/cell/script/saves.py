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


Value = tuple[tuple[int, ...], float, float]
"""Shape and two sums of a tensor."""


class Savings:
    """What the script saves of one trained model, compared with its values before training."""

    def __init__(self, model: nn.Module) -> None:
        self._before = frozenset(map(_value, model.state_dict().values()))
        self._trained = self._untrained = False
        self._configs: dict[Path, Mapping[str, Any]] = {}

    def note(self, saved: Any) -> None:
        """Note tensors that are saved after training."""
        values = [_value(tensor) for tensor in _tensors(saved) if tensor.is_floating_point() and tensor.numel() > 1]
        if values and all(value in self._before for value in values):
            self._untrained = True
        elif values:
            self._trained = True

    def has(self, value: Value) -> bool:
        """Whether a tensor had this value before training."""
        return value in self._before

    def wrote(self, directory: Path) -> None:
        """Note the configuration of an adapter that was just saved to `directory`."""
        for file in directory.glob("**/adapter_config.json"):
            self._configs[file] = _settings(file)

    @property
    def configs(self) -> frozenset[Path]:
        """The configurations of the adapters that were saved after training, without links."""
        return frozenset(file.resolve() for file in self._configs)

    def saved_as(self) -> str:
        """As `Run.saved_as`, without `early`."""
        changed = [
            f"{name} {old!r} -> {now[name]!r}"
            for file, before in self._configs.items()
            if file.is_file()
            for now in (_settings(file),)
            for name, old in before.items()
            if name in now and now[name] != old
        ]
        if changed:
            return f"changed {', '.join(changed)}"
        return "trained" if self._trained else "untrained" if self._untrained else ""


_STRENGTH = ("lora_alpha", "r", "use_rslora", "use_dora", "alpha_pattern", "rank_pattern")
"""Entries of adapter_config.json on which the result of a loaded adapter depends."""


def _settings(file: Path) -> Mapping[str, Any]:
    found = json.loads(file.read_text(encoding="utf-8"))
    return {name: found[name] for name in _STRENGTH if name in found}


def _tensors(saved: Any) -> list[torch.Tensor]:
    """The tensors of what is passed to a function that saves."""
    if isinstance(saved, nn.Module):
        return list(saved.state_dict().values())
    if isinstance(saved, Mapping):
        return [one for value in saved.values() for one in _tensors(value)]
    return [saved] if isinstance(saved, torch.Tensor) else []


def _value(tensor: torch.Tensor) -> Value:
    return (tuple(tensor.shape), *_sums(tensor))


def _has_virtual_tokens(model: nn.Module) -> bool:
    configs = (getattr(module, "peft_config", None) for module in model.modules())
    found = (config for one in configs if isinstance(one, dict) for config in one.values())
    return any(getattr(config, "is_prompt_learning", False) for config in found)


def _sums(parameter: torch.Tensor) -> tuple[float, float]:
    """Two sums over all elements. Every step of an optimizer changes them."""
    values = parameter.detach()
    if not values.is_floating_point():
        values = values.float()
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


def of_tensors(model: nn.Module, saved: Any, before: Savings) -> SavedAdapter | None:
    """Which trained tensors outside the adapter layers, such as a head in `modules_to_save`, are missing in a mapping
    of tensors that the script saves by itself; None if it holds one of them, or no tensor of the adapters: then nothing
    shows what else the script saves.

    Args:
        model: the model that was trained.
        saved: what is passed to the function that saves.
        before: the values before training.
    """
    trained = {name: _value(p) for name, p in model.named_parameters() if p.requires_grad}
    changed = {name: value for name, value in trained.items() if not before.has(value)}
    adapted = {name for name in changed if is_adapter(name) and "modules_to_save" not in name.split(".")}
    held = {_value(tensor) for tensor in _tensors(saved)}
    others = tuple(name for name in changed if name not in adapted)
    if (
        not others
        or not any(changed[name] in held for name in adapted)
        or any(changed[name] in held for name in others)
    ):
        return None
    return SavedAdapter(trained=len(others), missing=others)


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
