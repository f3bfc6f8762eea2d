"""Unit tests of finetune_compat.cell.time_limit."""

from __future__ import annotations

import faulthandler
import subprocess
import sys

import pytest
from finetune_compat.cell.time_limit import IMPORT_LIMIT_S, importing, limited


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each timer that is started; 0.0 for a timer that is cancelled."""
    timers: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda seconds, **_: timers.append(seconds))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: timers.append(0.0))
    return timers


def test_imports_do_not_count_as_time_of_the_cell(started: list[float]) -> None:
    """The imports have a limit of their own, and after them the cell's limit starts again."""
    with limited(2.0):
        with importing():
            pass
        assert started == [2.0, IMPORT_LIMIT_S, 2.0]
    assert started[-1] == 0.0


def test_imports_never_shorten_a_limit(started: list[float]) -> None:
    """A limit above that of imports stays."""
    with limited(2 * IMPORT_LIMIT_S), importing():
        assert started == [2 * IMPORT_LIMIT_S] * 2


def test_without_a_limit_no_timer_is_started(started: list[float]) -> None:
    """A process that runs a cell without a limit is never ended, also after a limited cell."""
    with limited(2.0):
        pass
    started.clear()
    with importing():
        pass
    assert started == []


def test_a_process_that_exceeds_its_limit_ends() -> None:
    """The process ends with an error, and prints where it was."""
    hang = "import time\nfrom finetune_compat.cell.time_limit import limited\nwith limited(0.2):\n    time.sleep(60)\n"
    ended = subprocess.run([sys.executable, "-c", hang], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "time_limit" in ended.stderr or "line 4" in ended.stderr
