"""Processes end with the one that started them, however that ends."""

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
    """Processes each of which started the next, in a session of its own; and what each said: depth, pid, adopted."""
    environ = {name: value for name, value in os.environ.items() if name != child_processes.PARENT}
    command = [sys.executable, "-c", TREE, str(depth), TREE]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline().split() for _ in range(depth + 1)]
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """Whether a process has ended, within seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # ended, and nobody has asked yet
            return True
        time.sleep(0.1)
    return False


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_whole_tree_ends_with_its_root(number: signal.Signals) -> None:
    """Killed, it can tell nobody: the kernel does. Groups and sessions of their own do not matter."""
    with tree(2) as (process, said):
        assert [(line[0], line[2]) for line in said] == [("2", "False"), ("1", "True"), ("0", "True")]
        process.send_signal(number)
        process.wait()
        assert all(gone(int(line[1])) for line in said)


@linux
def test_what_ends_in_the_middle_takes_what_is_below_and_not_what_is_above() -> None:
    """A session that dies is no reason to end the run."""
    with tree(2) as (process, said):
        os.kill(int(said[1][1]), signal.SIGKILL)
        assert gone(int(said[2][1]))
        assert process.poll() is None


@linux
def test_a_process_whose_parent_was_gone_before_it_asked_ends_itself() -> None:
    """What is over is not sent by the kernel any more."""
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
def test_a_process_nobody_adopted_is_its_own(monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    """Started from a shell, or from a process of another run: no signal is asked for."""
    monkeypatch.setenv(child_processes.PARENT, parent)
    monkeypatch.setattr(child_processes.ctypes, "CDLL", lambda _: pytest.fail("the kernel was asked"))
    assert child_processes.end_with_parent() is False


def test_who_adopts_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """To what it starts, through their environment."""
    monkeypatch.setenv(child_processes.PARENT, "1")
    child_processes.adopt()
    assert os.environ[child_processes.PARENT] == str(os.getpid())
