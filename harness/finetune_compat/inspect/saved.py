"""A saved adapter: a directory, its configuration and its weights. Facts, no opinion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import AdapterError
from finetune_compat.inspect.beside import Beside, read_beside
from finetune_compat.inspect.config import CONFIG, AdapterConfig, read_config
from finetune_compat.inspect.layers import Layer, layers_of
from finetune_compat.inspect.names import Name, Part, parse
from finetune_compat.inspect.values import NO_VALUES, Values, together
from finetune_compat.inspect.weights import WEIGHTS, Tensor, Weights, pickled, read_weights

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of files that torch.save writes."""

_NAMED = 3
"""Maximum number of files that an error names."""


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """Facts of all tensors of one class together."""

    name: str
    tensors: int
    elements: int
    dtypes: tuple[str, ...]
    all_zero: int
    """Number of tensors in which every element is zero."""
    values: Values | None
    """None if a tensor has a dtype that is not in `READABLE`."""


@dataclass(frozen=True, slots=True)
class Saved:
    """All facts of a saved adapter."""

    directory: Path
    config: AdapterConfig
    config_raw: dict[str, Any]
    weights: Weights
    names: Mapping[str, Name]
    """Parsed names by the tensor's full name."""
    layers: tuple[Layer, ...]
    """Empty unless the method is LoRA, rsLoRA or DoRA."""
    pickles: tuple[str, ...]
    """Pickled weights in the same directory, which were not read."""
    beside: Beside = field(default_factory=Beside)

    @property
    def is_prompt(self) -> bool:
        """Whether the method learns virtual tokens: prompt tuning, prefix tuning, P-tuning and their variants."""
        return "num_virtual_tokens" in self.config_raw

    @property
    def classes(self) -> tuple[ClassFacts, ...]:
        """Facts of each class of tensors in the file, low-rank factors first."""
        order = list(Part)
        named: dict[str, list[Tensor]] = {}
        for tensor in sorted(self.weights.tensors, key=lambda tensor: order.index(self.names[tensor.name].part)):
            named.setdefault(self.names[tensor.name].class_name, []).append(tensor)
        return tuple(_class_facts(name, tensors) for name, tensors in named.items())


def read_adapter(directory: Path) -> Saved:
    """Read the adapter in `directory`. Its weights are read once.

    Raises:
        AdapterError: the directory does not exist or is not a saved adapter, or a file of it cannot be read.
    """
    _check_directory(directory)
    config, raw = read_config(directory / CONFIG)
    weights = read_weights(_weights_file(directory))
    names = {tensor.name: parse(tensor.name) for tensor in weights.tensors}
    layers = layers_of(config, weights.tensors, names) if config.is_lora else ()
    beside = read_beside(directory, config.peft_version)
    return Saved(directory, config, raw, weights, names, layers, _pickles(directory), beside)


def _check_directory(directory: Path) -> None:
    if directory.is_file():
        raise _file_given(directory)
    if not directory.is_dir():
        raise AdapterError(
            "there is no such directory",
            where=str(directory),
            meaning="Only adapters on this machine are inspected. Names on a model hub are not looked up.",
            todo=f"Give the directory that holds {CONFIG} and {WEIGHTS}.",
        )
    if not (directory / CONFIG).is_file():
        below = sorted(path.parent.name for path in directory.glob(f"*/{CONFIG}"))
        raise AdapterError(
            f"holds no {CONFIG}",
            where=str(directory),
            meaning="It holds saved adapters one level below." if below else "It is not a saved adapter.",
            todo=f"Give one of them: {_some(below)}." if below else "Give a directory that save_pretrained wrote.",
        )


def _file_given(path: Path) -> AdapterError:
    if path.suffix in _PICKLED:
        return pickled(path, "is a pickle")
    return AdapterError(
        "is a file, not a directory",
        where=str(path),
        meaning=f"An adapter is its weights and its {CONFIG} together.",
        todo=f"Give the directory: {path.parent}",
    )


def _weights_file(directory: Path) -> Path:
    path = directory / WEIGHTS
    if path.is_file():
        return path
    pickles = _pickles(directory)
    if pickles:
        raise pickled(directory / pickles[0], "is a pickle, and the directory has no safetensors file")
    there = sorted(item.name for item in directory.iterdir() if item.name != CONFIG)
    raise AdapterError(
        f"holds no {WEIGHTS}",
        where=str(directory),
        meaning=f"Files other than {CONFIG} in the directory: {_some(there) or 'none'}.",
        todo="Save the adapter again with save_pretrained, or copy the missing file.",
    )


def _pickles(directory: Path) -> tuple[str, ...]:
    """Names of pickled adapter weights. Other pickles in a checkpoint belong to the trainer."""
    return tuple(sorted(path.name for path in directory.glob("adapter*") if path.suffix in _PICKLED))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _class_facts(name: str, tensors: list[Tensor]) -> ClassFacts:
    values = [tensor.values for tensor in tensors if tensor.values is not None]
    return ClassFacts(
        name=name,
        tensors=len(tensors),
        elements=sum(tensor.elements for tensor in tensors),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors})),
        all_zero=sum(tensor.all_zero for tensor in tensors),
        values=reduce(together, values, NO_VALUES) if len(values) == len(tensors) else None,
    )
