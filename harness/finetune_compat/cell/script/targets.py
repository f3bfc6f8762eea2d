"""What the configuration of the active adapters asks for, what it reached, and how strong the adapters are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from finetune_compat.cell.instruments.census import active_adapters
from finetune_compat.contract.script import AdapterSetup


def setup_of(model: nn.Module) -> AdapterSetup | None:
    """The setup of the active adapters of `model`; None if it has none."""
    active = active_adapters(model)
    configs = next(
        (found for one in model.modules() if isinstance(found := getattr(one, "peft_config", None), dict)), {}
    )
    chosen = [configs[name] for name in active if name in configs]
    if not active:
        return None
    modules = _plain(name for name, _ in model.named_modules())
    names = modules | _plain(name for name, _ in model.named_parameters())
    asked = tuple(sorted({name for config in chosen for name in _targets(config)}))
    patterns = tuple(sorted({key for config in chosen for key in _patterns(config)}))
    replaced = [name for config in chosen for name in getattr(config, "target_parameters", None) or ()]
    return AdapterSetup(
        asked=asked,
        unreached=tuple(name for name in asked if not _is_there(name, modules, replaced)),
        patterns_unreached=tuple(key for key in patterns if not _matches(key, names)),
        scaling=_scaling(model, active),
    )


def _targets(config: Any) -> Iterable[str]:
    targets = getattr(config, "target_modules", None)
    return () if targets is None or isinstance(targets, str) else targets


def _patterns(config: Any) -> Iterable[str]:
    return (*(getattr(config, "rank_pattern", None) or ()), *(getattr(config, "alpha_pattern", None) or ()))


def _plain(names: Iterable[str]) -> frozenset[str]:
    """`names` without the wrappers of PEFT."""
    return frozenset(name.replace(".base_layer", "") for name in names)


def _is_there(target: str, modules: Iterable[str], replaced: Iterable[str]) -> bool:
    """Whether a module has the name `target`, as PEFT compares them. PEFT adapts it then, unless the configuration
    leaves it out (`exclude_modules`, `layers_to_transform`). Experts in one parameter are in `target_parameters`.
    """
    stem = target.rpartition(".")[2].removesuffix("_proj")
    if any(stem in re.split(r"[._]", name) for name in replaced):
        return True
    return any(name == target or name.endswith(f".{target}") for name in modules)


def _matches(key: str, names: Iterable[str]) -> bool:
    """Whether PEFT uses an entry of `rank_pattern` or `alpha_pattern` for one of `names`."""
    try:
        pattern = re.compile(rf"(.*\.)?({key})")
    except re.error:
        return True  # no opinion on a pattern that Python cannot read
    return any(pattern.fullmatch(name) for name in names)


def _scaling(model: nn.Module, active: Iterable[str]) -> Mapping[str, int]:
    factors = (getattr(module, "scaling", None) for module in model.modules())
    used = (float(found[name]) for found in factors if isinstance(found, dict) for name in active if name in found)
    return dict(sorted(Counter(f"{factor:.6g}" for factor in used).items()))
