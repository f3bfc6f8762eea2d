"""Checks of loading a saved adapter in a stack. Each is a pure function that returns None or a finding."""

from __future__ import annotations

from finetune_compat.inspect.case import (
    Case,
    Seen,
    named_modules,
    so_many,
)
from finetune_compat.inspect.loading import Loading


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
    if loading is None or not loading.missing:
        return None
    which = so_many(len(loading.missing), "parameter", "finds", "find")
    return Seen(
        f"{_under(loading)} {which} no tensor: the adapter keeps its initial values there "
        f"{named_modules(loading.missing)}.",
        loading.missing,
    )


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
