"""Checks of loading a saved adapter in a stack. Each is a pure function that returns None or a finding."""

from __future__ import annotations

from finetune_compat.inspect.case import (
    Case,
    Seen,
    named_modules,
    so_many,
    trains_biases,
)
from finetune_compat.inspect.loading import Loading
from finetune_compat.inspect.names import Part, parse
from finetune_compat.inspect.saved import Saved


def _under(loading: Loading) -> str:
    return f"Under {loading.stack}"


def loads_at_all(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.error:
        return None
    what = "loading fails" if loading.base else "the base cannot be built"
    return Seen(f"{_under(loading)} {what}: {' '.join(loading.error.split())[:300]}")


def nothing_missing(case: Case) -> Seen | None:
    loading = case.loading
    missing = () if loading is None else tuple(name for name in loading.missing if not _never_trained(case.saved, name))
    if loading is None or not missing:
        return None
    which = so_many(len(missing), "parameter", "finds", "find")
    return Seen(
        f"{_under(loading)} {which} no tensor: the adapter keeps its initial values there {named_modules(missing)}.",
        missing,
    )


def _never_trained(saved: Saved, name: str) -> bool:
    """Whether the parameter `name` is a bias of the base, which the PEFT that saved the adapter left as it was."""
    config = saved.config
    return config.is_lora and config.bias == "lora_only" and parse(name).part is Part.BIAS and not trains_biases(saved)


def nothing_dropped(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.unexpected:
        return None
    which = so_many(len(loading.unexpected), "tensor", "finds", "find")
    return Seen(
        f"{_under(loading)} {which} no place in {loading.base}: PEFT drops {named_modules(loading.unexpected)}.",
        loading.unexpected,
    )


def shapes_fit(case: Case) -> Seen | None:
    loading = case.loading
    if loading is None or not loading.mismatched:
        return None
    where = tuple(item.name for item in loading.mismatched)
    which, first = so_many(len(where), "tensor", "has", "have"), loading.mismatched[0]
    return Seen(
        f"{_under(loading)} {which} another shape in {loading.base}, the first "
        f"{list(first.saved)} for {list(first.model)} {named_modules(where)}.",
        where,
    )


def options_known(case: Case) -> Seen | None:
    """The stack's PEFT knows every option the configuration switches on."""
    loading = case.loading
    if loading is None or loading.error or not loading.unknown_options:
        return None
    options = loading.unknown_options
    version = loading.versions["peft"]
    return Seen(f"{_under(loading)} PEFT {version} does not know and ignores {', '.join(options)}.", options)


def foretold(case: Case) -> Seen | None:
    """Names and shapes are enough to say whether the adapter loads."""
    loading = case.loading
    if loading is None or not loading.untold:
        return None
    return Seen(f"{_under(loading)} nothing is foretold: loading this method needs values ({loading.untold[:200]})")
