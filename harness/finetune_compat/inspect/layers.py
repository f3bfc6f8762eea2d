"""The modules an adapter changes, and what its configuration asks for in each. Facts, no opinion.

A configuration names modules by PEFT's rule (its `check_target_module_exists` and `get_pattern_key`): the last
dot-separated parts of a name, or one regular expression for the whole name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from finetune_compat.inspect import patterns
from finetune_compat.inspect.config import ALL_LINEAR, AdapterConfig
from finetune_compat.inspect.names import Name, Part
from finetune_compat.inspect.weights import Tensor

_T = TypeVar("_T", int, float)


@dataclass(frozen=True, slots=True)
class Layer:
    """One module with a low-rank update."""

    module: str
    parts: Mapping[Part, Tensor]
    rank_asked: int
    alpha: float
    scaling: float
    """Factor of the update: alpha / r, for rsLoRA alpha / sqrt(r)."""
    targeted: bool
    """Whether a target of the configuration names this module or a parameter of it."""
    by_parameter: bool
    """Whether only `target_parameters` names it. The rank is then r times the number of experts."""
    zero_at_start: tuple[Part, ...]
    """The factors that are zero before the first step, from `zero_at_start`."""

    @property
    def factors(self) -> tuple[Tensor | None, Tensor | None]:
        """The first and the second factor of the update."""
        first = self.parts.get(Part.LORA_A) or self.parts.get(Part.EMBEDDING_A)
        return first, self.parts.get(Part.LORA_B) or self.parts.get(Part.EMBEDDING_B)

    @property
    def born_zero(self) -> Tensor | None:
        """The factor that PEFT initializes to zero, so that the update starts at zero; None if no factor is zero."""
        return next((self.parts[part] for part in self.zero_at_start if part in self.parts), None)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank of each existing factor: rows of the first, columns of the second."""
        first, second = self.factors
        rows = [first.shape[0]] if first and len(first.shape) > 1 else []
        return (*rows, *([second.shape[1]] if second and len(second.shape) > 1 else []))


def layers_of(config: AdapterConfig, tensors: Iterable[Tensor], names: Mapping[str, Name]) -> tuple[Layer, ...]:
    """The modules with a LoRA tensor, in the order of their tensors."""
    parts: dict[str, dict[Part, Tensor]] = {}
    for tensor in tensors:
        name = names[tensor.name]
        if name.lora:
            parts.setdefault(name.module, {})[name.part] = tensor
    return tuple(_layer(config, module, found) for module, found in parts.items())


def _layer(config: AdapterConfig, module: str, parts: Mapping[Part, Tensor]) -> Layer:
    by_name, by_parameter = targets(config, module), adapts_parameters(config, module)
    rank = asked(config.rank_pattern, module, config.r)
    alpha = asked(config.alpha_pattern, module, config.lora_alpha)
    return Layer(
        module=module,
        parts=parts,
        rank_asked=rank,
        alpha=alpha,
        scaling=alpha / (math.sqrt(rank) if config.use_rslora else rank),
        targeted=by_name or by_parameter,
        by_parameter=by_parameter and not by_name,
        zero_at_start=zero_at_start(config),
    )


def zero_at_start(config: AdapterConfig) -> tuple[Part, ...]:
    """The factors that are zero before the first step: B of a linear layer, A of an embedding.

    For MiCA, which trains only A, it is A of a linear layer too. Empty for initializations that do not start at zero
    (PiSSA, OLoRA, CorDA, LoftQ, orthogonal, random).
    """
    match config.start:
        case "default" | "gaussian" | "eva":
            return (Part.LORA_B, Part.EMBEDDING_A)
        case "mica":
            return (Part.LORA_A, Part.EMBEDDING_A)
        case _:
            return ()


def asked(pattern: Mapping[str, _T] | None, module: str, otherwise: _T) -> _T:
    """The value in `rank_pattern` or `alpha_pattern` for `module`, by the first matching key; else `otherwise`."""
    return next((value for key, value in (pattern or {}).items() if ends_as(key, module)), otherwise)


def ends_as(pattern: str, module: str) -> bool:
    """Whether `pattern` matches the whole name `module`, or its end from the beginning of a part."""
    return patterns.full(rf"(.*\.)?({pattern})", module) is not None


def targets(config: AdapterConfig, module: str) -> bool:
    """Whether `target_modules` names `module` and `exclude_modules` does not."""
    wanted = config.target_modules
    if excluded(config, module):
        return False
    if isinstance(wanted, str):
        return wanted == ALL_LINEAR or patterns.full(wanted, module) is not None
    # PEFT checks the layer index only if a target is the end of a name, not if it is the whole name.
    named = wanted or ()
    return module in named or (any(ends_with(module, name) for name in named) and _in_layers(config, module))


def excluded(config: AdapterConfig, module: str) -> bool:
    """Whether `exclude_modules` names `module`."""
    names = config.exclude_modules
    if isinstance(names, str):
        return patterns.full(names, module) is not None
    return any(ends_with(module, name) for name in names or ())


def saved_whole(config: AdapterConfig, module: str) -> bool:
    """Whether `module` is one of `modules_to_save` or inside one, so that PEFT adds no update to it."""
    inside = f".{module}."
    return any(f".{name}." in inside for name in config.modules_to_save or ())


def ends_with(module: str, name: str) -> bool:
    """Whether the last parts of `module` are `name`."""
    return module == name or module.endswith(f".{name}")


def _in_layers(config: AdapterConfig, module: str) -> bool:
    chosen = config.layers_to_transform
    if chosen is None or chosen == ():
        return True
    given = config.layers_pattern or r"[^.]*"
    each = (given,) if isinstance(given, str) else given
    found = next((hit for hit in (patterns.begin(rf"(?:^|.*?\.){p}\.(\d+)\.", module) for p in each) if hit), None)
    return found is not None and int(found[1]) in ((chosen,) if isinstance(chosen, int) else chosen)


def adapts_parameters(config: AdapterConfig, module: str) -> bool:
    """Whether `target_parameters` names a parameter of `module`. Trailing `base_layer` parts (wrappers) are ignored."""
    owner = re.sub(r"(\.base_layer)+$", "", module)
    parents = (name.rpartition(".")[0] for name in config.target_parameters or ())
    return any(not parent or ends_with(owner, parent) for parent in parents)
