"""Work on another core: what comes back of it, and what does when it fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from finetune_compat.machine import aside as module
from finetune_compat.machine.aside import aside


@pytest.fixture(params=["two cores", "one core"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a machine may have."""
    found = {0} if request.param == "one core" else {0, 1}
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: found)
    return str(request.param)


def test_work_is_done_when_the_context_is_over(cores: str, tmp_path: Path) -> None:
    """By another process where there is a core for it; files it writes are there, and what it returned."""

    def work() -> tuple[int, str]:
        (tmp_path / "written").write_text("whole")
        return os.getpid(), "done"

    with aside(work) as later:
        pass
    pid, said = later.result
    assert (said, (tmp_path / "written").read_text()) == ("done", "whole")
    assert (pid == os.getpid()) == (cores == "one core")


def test_what_is_not_worth_a_process_is_done_here() -> None:
    """Starting one takes longer than a small run."""
    with aside(os.getpid, worth_it=False) as later:
        pass
    assert later.result == os.getpid()


def test_what_it_raises_is_raised_here(cores: str) -> None:
    """A disk that is full is said by whoever catches errors, and nothing is taken for a result."""

    def work() -> None:
        raise OSError(28, "No space left on device", "report.html")

    with pytest.raises(OSError, match="No space left on device") as raised, aside(work):
        pass
    assert raised.value.filename == "report.html"


def test_a_process_that_is_killed_is_an_error() -> None:
    """Never a run with a file missing."""
    with (
        pytest.raises(ChildProcessError, match="was killed"),
        aside(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    ):
        pass


def test_an_error_beside_it_waits_for_it_and_is_the_error(tmp_path: Path) -> None:
    """No process is left behind."""
    with pytest.raises(KeyError), aside(lambda: (tmp_path / "written").write_text("whole")):
        raise KeyError
    assert (tmp_path / "written").read_text() == "whole"
