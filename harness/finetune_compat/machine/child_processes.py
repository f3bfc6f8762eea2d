"""A process that ends with the one that started it, however that ends: SIGKILL too. Standard library only, both sides.

A run is a tree of processes (compat, nox, a nox a stack, pytest, its workers), some in process groups of their own.
Left alone, the rest of a killed tree would go on running cells beside the run that resumes it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "COMPAT_PARENT"
"""Environment variable: the process id whose children are to end with it."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h. Only the kernel sees every way in which a process can end."""


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
