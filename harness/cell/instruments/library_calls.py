"""Observe the preparation and wrapping that a library does inside a trainer, at the library's own calls.

Trainers import `prepare_model_for_kbit_training` and `get_peft_model` by name, so every reference to them in the
trainer library's loaded modules is replaced for the duration, and put back.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Hook = Callable[[Any], None]
"""Receives what the observed call returned."""

_LIBRARIES = ("trl", "transformers")


@contextmanager
def observed(hooks: dict[Callable[..., Any], Hook]) -> Iterator[None]:
    """Call each hook with what its function returns, whenever trainer code calls it by a name it imported."""
    replaced: list[tuple[ModuleType, str, Callable[..., Any]]] = []
    for original, hook in hooks.items():
        stand_in = _reporting(original, hook)
        for module, name in _references(original):
            replaced.append((module, name, original))
            setattr(module, name, stand_in)
    try:
        yield
    finally:
        for module, name, original in replaced:
            setattr(module, name, original)


def _reporting(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        hook(result)
        return result

    return call


def _references(original: Callable[..., Any]) -> list[tuple[ModuleType, str]]:
    return [
        (module, name)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").partition(".")[0] in _LIBRARIES
        for name, value in list(vars(module).items())
        if value is original
    ]
