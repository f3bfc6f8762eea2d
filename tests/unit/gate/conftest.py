"""A resolver and an index that are stand-ins."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.stacks import index, locks
from resolve_builders import TRL, Uv


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_places: Any) -> Uv:
    """The resolver, and an index that has releases of TRL, and wheels of everything."""
    found = Uv()
    in_places(environments=tmp_path / "envs")
    monkeypatch.setattr(locks, "run_uv", found)
    monkeypatch.setattr(index, "releases", lambda package: tuple(TRL))
    monkeypatch.setattr(index, "newest_without_wheel", lambda package, allowed: None)
    return found


@pytest.fixture
def of_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> None:
    """An index in which every release is of one day."""
    in_places(environments=tmp_path)
    monkeypatch.setattr(index, "release_day", lambda package, version: date(2025, 8, 29))
