"""Fixtures of the tests of adapters."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters are named relative to their folder."""
    monkeypatch.chdir(tmp_path)
