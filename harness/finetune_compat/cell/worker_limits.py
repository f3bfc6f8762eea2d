"""Watch the cells' processes from outside, in xdist's controller: end one that holds too much memory, and write down
how one ended before its cell was through.

Resident memory is read from /proc. A limit on address space (RLIMIT_AS) would count what torch and CUDA reserve and
never touch, tens of gigabytes, and would show as whatever error the library makes of a refused allocation; a cgroup
needs rights that a container rarely has. From inside the cell a thread would wait for the interpreter lock, which an
allocation may hold.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_compat.cell import runner
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import End, EndCause, Started

EVERY_S = 0.05
"""Between two looks. A process that fills new pages as fast as it can (3 GB/s measured) overshoots by 0.15 GB."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _pid(node: Any) -> int:
    """The process of a worker. execnet's own handle: asking the worker would wait for a cell to end."""
    return int(node.gateway._io.popen.pid)


class Watch:
    """xdist's hooks, and one thread that looks at the workers."""

    def __init__(self, plan: Plan, *, look: Callable[[int], int] = resident) -> None:
        self._plan = plan
        self._look = look
        self._cells = {str(cell): cell for cell in plan.cells}
        self._began: dict[str, float] = {}
        self._held: dict[int, int] = {}
        """Bytes by process id, of workers that live; of the others what they held when last looked at."""
        self._ended: set[int] = set()
        """Processes ended for their memory."""
        self._over = threading.Event()

    def pytest_sessionstart(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, daemon=True).start()

    def pytest_sessionfinish(self) -> None:
        """Look no longer."""
        self._over.set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """A worker is there: its process is watched."""
        self._held[_pid(node)] = 0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A worker begins a cell."""
        self._began[nodeid] = time.monotonic()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """A worker ended in the middle of a cell: one more line says how, so far as it is known."""
        cell = self._cells.get(crashitem.partition("[")[2].removesuffix("]"))
        if cell is not None:
            runner.append(self._plan, self._started(cell, crashitem, _pid(report.node)))

    def _started(self, cell: PlannedCell, nodeid: str, pid: int) -> Started:
        seconds = time.monotonic() - self._began.get(nodeid, time.monotonic())
        if pid in self._ended:
            cause = EndCause.MEMORY
        else:
            cause = EndCause.TIME if seconds >= self._plan.limit_s else EndCause.CRASH
        end = End(cause, self._held.get(pid, 0), round(seconds, 1))
        return Started(cell=self._plan.id_of(cell), started=runner.now(), end=end)

    def _run(self) -> None:
        while not self._over.wait(EVERY_S):
            for pid in list(self._held):
                self.look(pid)

    def look(self, pid: int) -> None:
        """Look at one process, and end it if it holds more than the limit."""
        held = self._look(pid)
        if not held or pid in self._ended:
            return
        self._held[pid] = held
        if self._plan.memory_limit is not None and held > self._plan.memory_limit:
            self._ended.add(pid)
            os.kill(pid, signal.SIGKILL)
