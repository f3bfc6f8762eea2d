"""Change a module right after it is executed, before another module imports a name from it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


class AfterImport:
    """A finder that finds modules through the other finders, and applies `changes` after a module is executed."""

    def __init__(
        self, changes: Mapping[str, Change], below: Mapping[str, Change], failed: Callable[[str, Exception], None]
    ) -> None:
        """
        Args:
            changes: the change of a module, by its full name.
            below: the change of every module of a package, by the name of the package.
            failed: called with the module's name and the exception when a change raises. The import continues.
        """
        self._changes, self._below, self._failed = changes, below, failed

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders return, if the module has a change. Otherwise None: Python then asks them."""
        change = self._changes.get(name) or self._below.get(name.partition(".")[0])
        if change is None:
            return None
        spec = next((found for finder in self._others() if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._changing(spec.loader.exec_module, change)  # type: ignore[method-assign]
        return spec

    def _others(self) -> list[Any]:
        return [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]

    def _changing(self, execute: Callable[[ModuleType], None], change: Change) -> Callable[[ModuleType], None]:
        @functools.wraps(execute)
        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            try:
                change(module)
            except Exception as error:  # noqa: BLE001 - an instrument must not end the script
                self._failed(module.__name__, error)

        return execute_and_change
