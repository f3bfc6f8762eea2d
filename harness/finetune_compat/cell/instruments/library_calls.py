"""Observe the library calls that prepare and wrap a model inside a trainer's constructor.

The functions are found by name: trainers import PEFT's, or define their own of the same name, as TRL 0.25 and 0.26 do.
While observing, every function of these names in the libraries' loaded modules is replaced.
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
"""Receives the return value of the observed call."""

_LIBRARIES = ("trl", "transformers", "peft")


@contextmanager
def observed(hooks: Mapping[str, Hook]) -> Iterator[None]:
    """While open, call each hook with the return values of library functions of its name. Nested calls do not count."""
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
    # By the key in sys.modules: accessing attributes of thousands of modules would take time.
    modules = [module for key, module in list(sys.modules.items()) if key.partition(".")[0] in _LIBRARIES]
    return [
        (module, name, vars(module)[name])
        for module in modules
        if isinstance(module, ModuleType)
        for name in names
        if callable(vars(module).get(name))
    ]
