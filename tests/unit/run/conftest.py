"""Fixtures of the tests of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import UNLISTED
from finetune_compat.run import cached_run, execution, nox_run
from finetune_compat.run import request as requested
from run_builders import Nox


@pytest.fixture
def nox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Nox:
    """There is no child process, the environment is a folder of files, and runs are in the test's folder."""
    stand_in = Nox()
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (site / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python").touch()
    (tmp_path / "env" / "pyvenv.cfg").write_text("version_info = 3.11.7\n")
    monkeypatch.setattr(requested, "env_python", lambda _: tmp_path / "env" / "bin" / "python")
    monkeypatch.setattr(nox_run.subprocess, "Popen", stand_in)
    in_places(runs=tmp_path / "runs")
    monkeypatch.setattr(execution, "POLL_EVERY_S", 0.0)
    for module in (execution, cached_run):
        monkeypatch.setattr(module, "load_ledger", lambda: UNLISTED)
    # A run sets both for its child processes.
    for name in ("COMPAT_RUN_ID", "COMPAT_PARENT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return stand_in
