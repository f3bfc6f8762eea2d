"""Observe the preparation and wrapping that a library does inside a trainer, at the library's own calls.

A step is known by its function's name: trainers import PEFT's, or define their own of the same name, as TRL 0.25 and
0.26 do. Every function of that name in the libraries' loaded modules is replaced for the duration, and put back.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Hook = Callable[[Any], None]
"""Receives what the observed call returned."""

_LIBRARIES = ("trl", "transformers", "peft")


@contextmanager
def observed(hooks: Mapping[str, Hook]) -> Iterator[None]:
    """Call each hook with what a library function of its name returns; of nested calls only the outermost counts."""
    depth: Counter[str] = Counter()
    stand_ins: dict[int, Callable[..., Any]] = {}
    replaced = _references(hooks)
    for module, name, original in replaced:
        stand_in = stand_ins.setdefault(id(original), _reporting(original, hooks[name], depth))
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _reporting(original: Callable[..., Any], hook: Hook, depth: Counter[str]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        depth["calls"] += 1
        try:
            result = original(*args, **kwargs)
        finally:
            depth["calls"] -= 1
        if not depth["calls"]:
            hook(result)
        return result

    return call


def _references(names: Mapping[str, Hook]) -> list[tuple[ModuleType, str, Callable[..., Any]]]:
    # By the name they were imported under: thousands of modules are not asked for theirs.
    modules = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] in _LIBRARIES]
    return [
        (module, name, vars(module)[name])
        for module in modules
        if isinstance(module, ModuleType)
        for name in names
        if callable(vars(module).get(name))
    ]
