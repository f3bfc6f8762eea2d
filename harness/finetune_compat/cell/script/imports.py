"""Do something to a module right after it has been executed, before anybody has taken a name out of it."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Change = Callable[[ModuleType], None]


class AfterImport:
    """A finder that finds nothing itself: it has the others find, and puts `changes` behind the module's execution."""

    def __init__(
        self, changes: Mapping[str, Change], below: Mapping[str, Change], failed: Callable[[str, Exception], None]
    ) -> None:
        """`changes` are by module, `below` by package: for each of its modules. A change that raises is told `failed`,
        and the import goes on.
        """
        self._changes, self._below, self._failed = changes, below, failed

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec the others find, if something is to be done to that module; else None, and they are asked again."""
        change = self._changes.get(name) or self._below.get(name.partition(".")[0])
        if change is None:
            return None
        spec = next((found for finder in self._others() if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = self._followed(spec.loader.exec_module, change)  # type: ignore[method-assign]
        return spec

    def _others(self) -> list[Any]:
        return [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]

    def _followed(self, execute: Callable[[ModuleType], None], change: Change) -> Callable[[ModuleType], None]:
        @functools.wraps(execute)
        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            try:
                change(module)
            except Exception as error:  # noqa: BLE001 - what watches must not end what is watched
                self._failed(module.__name__, error)

        return execute_and_change
