"""A process that ends with the one that started it, however that ends: SIGKILL too. And one that is ended with all that
it started. Standard library only, both sides.

A run is a tree of processes (compat, nox, a nox a stack, pytest, its workers), some in process groups of their own.
Left alone, the rest of a killed tree would go on running cells beside the run that resumes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

PARENT = "COMPAT_PARENT"
"""Environment variable: the process id whose children are to end with it."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h. Only the kernel sees every way in which a process can end."""

PATIENCE_S = 3.0
"""Seconds from SIGTERM to SIGKILL, in which launchers end their workers."""

_KILLED_WITHIN_S = 1.0
"""Seconds from SIGKILL until a process is left to the kernel, which ends it when a disk has answered."""

_LOOK_EVERY_S = 0.05


def end_with_parent() -> bool:
    """If the process that started this one called `adopt`, ask the kernel for SIGTERM when it ends; end now if it has.

    Where the kernel is not Linux nothing happens: what is left of a killed run then runs its stacks to their end.

    Returns:
        Whether that process called `adopt`.
    """
    parent = os.environ.get(PARENT, "")
    if not parent.isdecimal():
        return False
    adopted = os.getppid() == int(parent)
    if adopted and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # Between its start and the line above; the kernel does not send what is already over.
    if not _lives(int(parent)):
        os.kill(os.getpid(), signal.SIGTERM)
    return adopted


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def adopt() -> None:
    """From now on, processes that this one starts and that call `end_with_parent` end with it."""
    os.environ[PARENT] = str(os.getpid())


def end_tree(process: subprocess.Popen[bytes], mark: str) -> None:
    """End `process` and all that it started: SIGTERM, and SIGKILL for what is left after `PATIENCE_S`.

    Args:
        process: the root, not yet waited for.
        mark: an entry of its environment, such as `NAME=value`, which no other process was given. What it started
            inherits it: processes in sessions of their own, and those whose parent is gone.
    """
    kill_at = time.monotonic() + PATIENCE_S
    asked: set[int] = set()
    while living := _tree(process, mark):
        now = time.monotonic()
        if now > kill_at + _KILLED_WITHIN_S:
            return
        for pid in living if now > kill_at else living - asked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if now > kill_at else signal.SIGTERM)
        asked |= living
        time.sleep(_LOOK_EVERY_S)


def _tree(process: subprocess.Popen[bytes], mark: str) -> set[int]:
    """Numbers of the living processes that `process` started, and its own."""
    found = {process.pid} if process.poll() is None else set()
    children: dict[int, list[int]] = {}
    for pid, parent, environ in _processes():
        children.setdefault(parent, []).append(pid)
        if mark.encode() in environ:
            found.add(pid)
    below = list(found)
    while below:
        for child in children.get(below.pop(), ()):
            if child not in found:
                found.add(child)
                below.append(child)
    return found


def _processes() -> Iterator[tuple[int, int, list[bytes]]]:
    """Number, parent and environment of each living process; no environment where this user may not read it."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state in (b"Z", b"X"):
                continue  # it ended, and its parent has not asked yet
            environ = b""
            with contextlib.suppress(PermissionError):
                environ = (folder / "environ").read_bytes()
            yield int(folder.name), int(parent), environ.split(b"\0")
