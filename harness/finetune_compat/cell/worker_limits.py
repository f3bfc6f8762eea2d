"""Watch the workers from xdist's controller: kill a worker that is above the memory limit or stopped, and record how a
worker ended in the middle of a cell.

Resident memory is read from /proc. A limit on address space (RLIMIT_AS) would count the tens of gigabytes that torch
and CUDA reserve and never use, and would appear as whatever error a library makes of a failed allocation. A cgroup
needs rights that a container rarely has. A thread inside the cell would wait for the interpreter lock, which an
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
"""Seconds between two readings. A process that fills new pages at 3 GB/s (the highest measured rate) exceeds the limit
by 0.15 GB.
"""

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int) -> int:
    """Bytes of resident memory of a process; 0 if the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def stopped(pid: int) -> bool:
    """Whether a process is stopped (SIGSTOP). It then ends by no timer of its own."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


_ASK = "import os; channel.send(os.getpid())"
"""What a worker runs to send its process id. What execnet started may be a client of the server that forked it."""


class Watch:
    """xdist hooks, and one thread that reads the memory of the workers."""

    def __init__(self, plan: Plan, *, look: Callable[[int], int] = resident) -> None:
        self._plan = plan
        self._look = look
        self._cells = {str(cell): cell for cell in plan.cells}
        self._began: dict[str, float] = {}
        self._pids: dict[str, int] = {}
        """Process id by worker."""
        self._held: dict[int, int] = {}
        """Bytes at the last reading, by process id."""
        self._stopped: dict[int, float] = {}
        """Since when a process is stopped, by process id."""
        self._ended: set[int] = set()
        """Processes killed because of their memory."""
        self._over = threading.Event()

    def pytest_sessionstart(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, daemon=True).start()

    def pytest_sessionfinish(self) -> None:
        """Stop the thread."""
        self._over.set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Called before a worker is set up: ask for its process id. Later, an answer would wait for its cells."""
        answer = node.gateway.remote_exec(_ASK)
        self._pids[node.gateway.id] = answer.receive()
        answer.waitclose()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Called when a worker is ready: watch its process."""
        self._held[self._pids[node.gateway.id]] = 0

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Called when a worker begins a cell: note the time."""
        self._began[nodeid] = time.monotonic()

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """Called when a worker ended in the middle of a cell: append a line with the cause, as far as known."""
        cell = self._cells.get(crashitem.partition("[")[2].removesuffix("]"))
        if cell is not None:
            runner.append(self._plan, self._started(cell, crashitem, self._pids[report.node.gateway.id]))

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
        """Read the memory and the state of one process. Kill it if it is above the memory limit, or stopped for as long
        as a cell may take.
        """
        since = self._stopped.setdefault(pid, time.monotonic()) if stopped(pid) else self._stopped.pop(pid, None)
        if pid in self._stopped and since is not None and time.monotonic() - since > self._plan.limit_s:
            os.kill(pid, signal.SIGKILL)
        held = self._look(pid)
        if not held or pid in self._ended:
            return
        self._held[pid] = held
        if self._plan.memory_limit is not None and held > self._plan.memory_limit:
            self._ended.add(pid)
            os.kill(pid, signal.SIGKILL)
