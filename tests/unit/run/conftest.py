"""Fixtures of the tests of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from run_builders import Nox, without_processes


@pytest.fixture
def nox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Nox:
    """There is no child process, the environment is a folder of files, and runs are in the test's folder."""
    stand_in = Nox()
    without_processes(stand_in, tmp_path, monkeypatch)
    in_places(runs=tmp_path / "runs")
    return stand_in
