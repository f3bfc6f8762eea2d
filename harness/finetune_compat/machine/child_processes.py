"""End a child process when its parent ends, also by SIGKILL, and end a process with all its descendants. Standard
library only, both sides.

A run is a tree of processes: compat, nox, one nox per stack, pytest, and its workers. Some are in separate process
groups. Otherwise, descendants of a killed process would keep running cells while the resumed run runs them again.
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
from typing import Protocol

PARENT = "COMPAT_PARENT"
"""Environment variable: the id of the process whose children must end with it."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h. Only the kernel can signal a child after every kind of end of its parent."""

PATIENCE_S = 3.0
"""Seconds from SIGTERM to SIGKILL, in which launchers can end their workers."""

_KILLED_WITHIN_S = 1.0
"""Seconds to wait after SIGKILL. A process that waits for a disk ends later."""

_LOOK_EVERY_S = 0.05


def end_with_parent() -> bool:
    """If the parent process called `adopt`, end this process when the parent ends: the kernel sends SIGTERM.

    If the parent has already ended, this process ends now. Without Linux, children of a killed run are not ended: they
    run until they are finished.

    Returns:
        Whether the parent called `adopt`.
    """
    parent = os.environ.get(PARENT, "")
    if not parent.isdecimal():
        return False
    adopted = os.getppid() == int(parent)
    if adopted and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # The parent may have ended before the line above. The kernel sends no signal for that.
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
    """From now on, child processes that call `end_with_parent` end with this process."""
    os.environ[PARENT] = str(os.getpid())


class Root(Protocol):
    """The process at the root of a tree; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """The process id."""

    def poll(self) -> int | None:
        """The exit status; None while it runs."""


def end_tree(process: Root, mark: str) -> None:
    """End `process` and all its descendants: SIGTERM first, and SIGKILL for those that live after `PATIENCE_S`.

    Args:
        process: the root, not yet waited for.
        mark: an environment variable of `process` in the form `NAME=value` that no unrelated process has. Descendants
            inherit it. So it also finds those in other sessions, and those whose parent has ended.
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


def _tree(process: Root, mark: str) -> set[int]:
    """Ids of `process` and of its descendants, as far as they are alive."""
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
    """Id, parent id and environment of each living process. The environment is empty if this user may not read it."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process ended meanwhile
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state in (b"Z", b"X"):
                continue  # a zombie: it ended, and its parent has not waited for it
            environ = b""
            with contextlib.suppress(PermissionError):
                environ = (folder / "environ").read_bytes()
            yield int(folder.name), int(parent), environ.split(b"\0")
