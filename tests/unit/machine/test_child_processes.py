"""Child processes end with their parent, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_compat.machine import child_processes
from finetune_compat.machine.places import PACKAGE

ROOT = PACKAGE.parents[1]

TREE = """
import os, subprocess, sys, time
from finetune_compat.machine import child_processes as orphans
depth = int(sys.argv[1])
adopted = orphans.end_with_parent()
print(f"{depth} {os.getpid()} {adopted}", flush=True)
if depth:
    orphans.adopt()
    subprocess.run([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]], start_new_session=True)
time.sleep(60)
"""

linux = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")


@contextlib.contextmanager
def tree(depth: int) -> Iterator[tuple[subprocess.Popen[str], list[list[str]]]]:
    """Processes that each start the next in a new session; returns what each printed: depth, pid, adopted."""
    environ = {name: value for name, value in os.environ.items() if name != child_processes.PARENT}
    command = [sys.executable, "-c", TREE, str(depth), TREE]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().split() for _ in range(depth + 1)]
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """Return whether a process ends within seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended and not yet waited for
            return True
        time.sleep(0.1)
    return False


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_whole_tree_ends_with_its_root(number: signal.Signals) -> None:
    """A killed process cannot signal its children: the kernel does. Process groups and sessions make no difference."""
    with tree(2) as (process, said):
        assert [(line[0], line[2]) for line in said] == [("2", "False"), ("1", "True"), ("0", "True")]
        process.send_signal(number)
        process.wait()
        assert all(gone(int(line[1])) for line in said)


@linux
def test_a_process_ends_with_its_parent_and_not_with_its_child() -> None:
    """A session that dies does not end the run."""
    with tree(2) as (process, said):
        os.kill(int(said[1][1]), signal.SIGKILL)
        assert gone(int(said[2][1]))
        assert process.poll() is None


@linux
def test_a_process_whose_parent_ended_early_ends_itself() -> None:
    """The kernel no longer sends a signal for a parent that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    code = "from finetune_compat.machine import child_processes as orphans; orphans.end_with_parent(); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, child_processes.PARENT: str(ended.pid)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "")


@pytest.mark.parametrize("parent", ["", "none", "1"])
def test_a_process_without_an_adopting_parent_is_independent(monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    """It was started from a shell or from a process of another run: it requests no signal."""
    monkeypatch.setenv(child_processes.PARENT, parent)
    monkeypatch.setattr(child_processes.ctypes, "CDLL", lambda _: pytest.fail("the kernel was asked"))
    assert child_processes.end_with_parent() is False


def test_a_parent_passes_its_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's pid is in the environment of its children."""
    monkeypatch.setenv(child_processes.PARENT, "1")
    child_processes.adopt()
    assert os.environ[child_processes.PARENT] == str(os.getpid())
