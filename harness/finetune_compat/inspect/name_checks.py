"""Checks of names, targets and ranks of a saved adapter. Each is a pure function that returns None or a finding."""

from __future__ import annotations

import re
from collections.abc import Sequence

from finetune_compat.inspect.case import (
    Case,
    Seen,
    asked_whole,
    modules_of,
    named,
    named_places,
    share_of,
    so_many,
    trains_biases,
)
from finetune_compat.inspect.layers import Layer, ends_with, excluded, saved_whole
from finetune_compat.inspect.names import FACTORS, PREFIX, WHOLE, WRAPPERS, Part
from finetune_compat.inspect.saved import Saved
from finetune_compat.machine.units import counted


def named_as_peft_does(case: Case) -> Seen | None:
    names = case.saved.names
    wrong = tuple(name for name, parsed in names.items() if parsed.foreign or not parsed.prefixed)
    if not wrong or not case.saved.config.is_lora:
        return None
    bare = any(not names[name].prefixed for name in wrong)
    extra = tuple(dict.fromkeys(names[name].foreign for name in wrong if names[name].foreign))
    problems = [f"contain {', '.join(extra)}"] * bool(extra) + [f"lack {PREFIX}"] * bare
    # PEFT 0.21.2 accepts the adapter's name inside a tensor's name; 0.20.0 does not (measured).
    reader = "PEFT" if bare or set(extra) & set(WRAPPERS) else "PEFT before 0.21"
    share = share_of(len(wrong), len(names), "tensor")
    return Seen(f"The names of {share} {' and '.join(problems)}: {reader} finds none of them.", wrong)


def in_pairs(case: Case) -> Seen | None:
    halves = [layer for layer in case.saved.layers if None in layer.factors and layer.factors != (None, None)]
    if not halves:
        return None
    parts = [part for layer in halves for part in layer.parts if part in FACTORS]
    kinds = " and ".join(dict.fromkeys(part.value for part in parts))
    where = modules_of(halves)
    which = so_many(len(halves), "module", "has", "have")
    return Seen(f"{which} only {kinds}, without the other factor {named_places(where)}.", where)


def ranks_as_asked(case: Case) -> Seen | None:
    wrong = [layer for layer in case.saved.layers if _rank_is_wrong(layer)]
    if not wrong or case.saved.config.use_bdlora:
        return None
    seen = dict.fromkeys("/".join(map(str, dict.fromkeys(layer.ranks))) for layer in wrong)
    wanted = dict.fromkeys(str(layer.rank_asked) for layer in wrong)
    share, where = share_of(len(wrong), len(case.saved.layers), "module"), modules_of(wrong)
    return Seen(
        f"The rank is {', '.join(seen)} in {share} where the configuration asks for {', '.join(wanted)} "
        f"{named_places(where)}.",
        where,
    )


def _rank_is_wrong(layer: Layer) -> bool:
    if layer.by_parameter:
        # One matrix holds the factors of all experts, and only the base knows the number of experts.
        return len(set(layer.ranks)) > 1
    return any(rank != layer.rank_asked for rank in layer.ranks)


def targets_have_tensors(case: Case) -> Seen | None:
    saved = case.saved
    config, layers = saved.config, saved.layers
    if not config.is_lora:
        return None
    if isinstance(config.target_modules, str):
        without = [] if any(layer.targeted for layer in layers) else [config.target_modules]
    else:
        without = [name for name in _names_without_tensors(saved) if not _may_be_excluded(saved, name)]
    without += [name for name in config.target_parameters or () if not _parameter_adapted(name, layers)]
    if not without:
        return None
    return Seen(f"{_targets_without(without)} no tensor {named_places(without)}.", tuple(without))


def exclusion_shows(case: Case) -> Seen | None:
    # If the adapter was loaded into the base, PEFT itself has found the modules to adapt.
    if not case.saved.config.is_lora or (case.loading is not None and not case.loading.error):
        return None
    without = tuple(name for name in _names_without_tensors(case.saved) if _may_be_excluded(case.saved, name))
    if not without:
        return None
    return Seen(
        f"{_targets_without(without)} no tensor {named_places(without)}: exclude_modules may exclude "
        "all their modules, which only the base shows.",
        without,
    )


def _targets_without(names: Sequence[str]) -> str:
    verb = "has" if len(names) == 1 else "have"
    return f"{counted(len(names), 'target')} of the configuration {verb}"


def _names_without_tensors(saved: Saved) -> list[str]:
    """Names in target_modules without tensors, except those that PEFT certainly does not adapt."""
    config, wanted = saved.config, saved.config.target_modules
    named = () if isinstance(wanted, str) else wanted or ()
    asked = (name for name in named if not excluded(config, name) and not saved_whole(config, name))
    return [name for name in asked if not any(ends_with(layer.module, name) for layer in saved.layers)]


def _may_be_excluded(saved: Saved, target: str) -> bool:
    """Whether exclude_modules may name every module that ends in `target`, although it does not name `target`."""
    names = saved.config.exclude_modules
    if not isinstance(names, str):
        return any(ends_with(name, target) for name in names or ())
    # An expression matches whole names. A target with the first part of a module of the base is a whole name.
    roots = {layer.module.partition(".")[0] for layer in saved.layers}
    return bool(names) and target.partition(".")[0] not in roots


def _parameter_adapted(name: str, layers: Sequence[Layer]) -> bool:
    parent = name.rpartition(".")[0]
    owners = (re.sub(r"(\.base_layer)+$", "", layer.module) for layer in layers if layer.by_parameter)
    return any(not parent or ends_with(owner, parent) for owner in owners)


def updates_are_asked_for(case: Case) -> Seen | None:
    config, layers = case.saved.config, case.saved.layers
    if config.target_modules is None and config.target_parameters is None:
        return None  # PEFT then uses the defaults of the model type
    stray = modules_of(layer for layer in layers if not layer.targeted)
    if not stray:
        return None
    lacking = "No target names, or exclude_modules excludes," if config.exclude_modules else "No target names"
    return Seen(f"{lacking} {share_of(len(stray), len(layers), 'module')} {named_places(stray)}.", stray)


_CLASSIFIERS = ("classifier", "score")
"""Names that PEFT adds to modules_to_save for a classification task; a model has one of the two."""


def saved_whole_is_there(case: Case) -> Seen | None:
    saved = case.saved
    if not saved.config.is_lora:
        return None
    there = {name for name, _ in asked_whole(saved)}
    missing = tuple(name for name in saved.config.modules_to_save or () if name not in there)
    if any(name in there for name in _CLASSIFIERS):
        missing = tuple(name for name in missing if name not in _CLASSIFIERS)
    if not missing:
        return None
    verb = "has" if len(missing) == 1 else "have"
    return Seen(f"{counted(len(missing), 'name')} of modules_to_save {verb} no tensor {named(missing)}.", missing)


def whole_is_asked_for(case: Case) -> Seen | None:
    saved = case.saved
    if not saved.config.is_lora:
        return None
    asked = {module for _, module in asked_whole(saved)}
    free = {Part.EMBEDDING, Part.HEAD, *([Part.BIAS] if saved.config.bias != "none" else [])}
    stray = tuple(
        full
        for full, name in saved.names.items()
        if name.part in WHOLE - free and not name.lora and name.module not in asked
    )
    if not stray:
        return None
    which = so_many(len(stray), "weight", "was", "were")
    return Seen(f"{which} saved whole, although the configuration does not ask for it {named_places(stray)}.", stray)


def magnitudes_as_asked(case: Case) -> Seen | None:
    """A DoRA adapter has a magnitude in every module; other adapters have none."""
    dora, layers = case.saved.config.use_dora, case.saved.layers
    wrong = modules_of(layer for layer in layers if (Part.MAGNITUDE in layer.parts) is not dora)
    if not wrong:
        return None
    problem = "true, and there is no magnitude" if dora else "false, and there is a magnitude"
    share = share_of(len(wrong), len(layers), "module")
    return Seen(f"use_dora is {problem} in {share} {named_places(wrong)}.", wrong)


def biases_saved(case: Case) -> Seen | None:
    """Biases are trained, and are in the file. Measured: PEFT 0.13.2 to 0.20.0 does not save them, 0.21.2 does."""
    if not case.saved.config.is_lora or case.saved.config.bias != "lora_only":
        return None
    if any(name.part is Part.BIAS for name in case.saved.names.values()):
        return None
    if not trains_biases(case.saved):
        return Seen("bias is lora_only, and PEFT before 0.10 trains no bias: the adapter has none.")
    return Seen("bias is lora_only, and no bias was saved: PEFT before 0.21 trains them but does not save them.")
