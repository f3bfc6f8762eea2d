"""What belongs to the script itself, and not to a library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OURS = str(Path(__file__).parents[2])


def is_own(module: str) -> bool:
    """Whether a class or function of `module` is the script's: no library has it, and no repository of a model."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module == "__main__" or not (module.startswith("transformers_modules") or "site-packages" in file)


def names_of(value: Any) -> tuple[str, ...]:
    """The names that the functions of the script which are running, and its module, have for `value`."""
    names = (name for scope in _scopes() for name, bound in scope.items() if bound is value)
    return tuple(dict.fromkeys(names))


def _scopes() -> Iterator[dict[str, Any]]:
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "site-packages" not in file and not file.startswith(_OURS):
            yield frame.f_locals
            yield frame.f_globals
        frame = frame.f_back  # type: ignore[assignment]
