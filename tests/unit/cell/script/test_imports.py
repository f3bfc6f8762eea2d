"""Changes of a module right after it is executed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from finetune_compat.cell.script.imports import AfterImport


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose __init__ takes a name out of its own module, as PEFT's does."""
    (tmp_path / "watched_pkg").mkdir()
    (tmp_path / "watched_pkg" / "__init__.py").write_text("from .inner import prepare\n")
    (tmp_path / "watched_pkg" / "inner.py").write_text("def prepare(): return 'plain'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.startswith("watched_pkg")]:
        del sys.modules[name]


def with_finder(monkeypatch: pytest.MonkeyPatch, change: Callable[[ModuleType], None], failures: list[str]) -> None:
    finder = AfterImport({"watched_pkg.inner": change}, {}, lambda name, error: failures.append(f"{name}: {error}"))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])


def test_a_change_comes_before_anybody_takes_a_name(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(module: ModuleType) -> None:
        module.prepare = lambda: "watched"  # type: ignore[attr-defined]

    with_finder(monkeypatch, change, [])
    import watched_pkg  # type: ignore[import-not-found]

    assert watched_pkg.prepare() == "watched"


def test_a_change_that_fails_is_told_and_the_import_goes_on(package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(module: ModuleType) -> None:
        raise TypeError("no")

    failures: list[str] = []
    with_finder(monkeypatch, change, failures)
    import watched_pkg

    assert (watched_pkg.prepare(), failures) == ("plain", ["watched_pkg.inner: no"])
