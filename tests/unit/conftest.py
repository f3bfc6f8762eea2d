"""Fixtures of all unit tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.machine import places
from finetune_compat.machine.places import Places
from hypothesis import settings

# No deadline: the time of one example depends on the machine, which these tests share with cells.
settings.register_profile("host", deadline=None)
settings.load_profile("host")


@pytest.fixture(autouse=True)
def _no_store_of_the_users(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own empty store and no shared store."""
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path_factory.mktemp("store")))
    monkeypatch.delenv("COMPAT_STORE_REMOTE", raising=False)


@pytest.fixture
def in_places(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Places]:
    """Replace some of this process's places until the test ends: `in_places(runs=tmp_path)`."""

    def replaced(**changed: Path) -> Places:
        found = dataclasses.replace(places.places(), **changed)
        monkeypatch.setattr(places, "_replaced", found)
        return found

    return replaced
