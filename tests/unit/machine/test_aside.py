"""Work in another process: its result and its errors."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from finetune_compat.machine import aside as module
from finetune_compat.machine.aside import aside


@pytest.fixture(params=["two cores", "one core"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Set the number of cores."""
    found = {0} if request.param == "one core" else {0, 1}
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: found)
    return str(request.param)


def test_work_is_done_when_the_context_is_over(cores: str, tmp_path: Path) -> None:
    """It runs in another process if there is a core; its files and its result are available afterwards."""

    def work() -> tuple[int, str]:
        (tmp_path / "written").write_text("whole")
        return os.getpid(), "done"

    with aside(work) as later:
        pass
    pid, said = later.result
    assert (said, (tmp_path / "written").read_text()) == ("done", "whole")
    assert (pid == os.getpid()) == (cores == "one core")


def test_small_work_runs_in_the_same_process() -> None:
    """Starting a process takes longer than a small run."""
    with aside(os.getpid, worth_it=False) as later:
        pass
    assert later.result == os.getpid()


def test_its_exception_is_raised_in_the_caller(cores: str) -> None:
    """A full disk is reported by the caller's error handling, and no result is invented."""

    def work() -> None:
        raise OSError(28, "No space left on device", "report.html")

    with pytest.raises(OSError, match="No space left on device") as raised, aside(work):
        pass
    assert raised.value.filename == "report.html"


def test_a_process_that_is_killed_is_an_error() -> None:
    """A run never misses a file silently."""
    with (
        pytest.raises(ChildProcessError, match="was killed"),
        aside(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    ):
        pass


def test_an_error_in_the_caller_waits_for_it_and_is_raised(tmp_path: Path) -> None:
    """No process survives."""
    with pytest.raises(KeyError), aside(lambda: (tmp_path / "written").write_text("whole")):
        raise KeyError
    assert (tmp_path / "written").read_text() == "whole"
