"""In xdist's controller: the server that forks a stack's workers, and workers that join while the cells run.

The host writes into the plan's `workers_file` how many workers the stack may have now: it knows whether other stacks
wait for a core. xdist itself only replaces workers, in the way that `join` does.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import execnet
import pytest

from finetune_compat.cell.forking import client
from finetune_compat.contract.plan import Plan

SERVER = "finetune_compat.cell.forking.server"


class ForkServer:
    """A process that has imported modules, and forks workers. Close it after use. Linux only."""

    def __init__(self, modules: Sequence[str], below: Path) -> None:
        """Start to import `modules`. The server's socket is in a new directory in `below`, which the caller removes."""
        below.mkdir(parents=True, exist_ok=True)
        self._place = tempfile.mkdtemp(dir=below)  # of this user alone: what is sent to the socket is executed
        folder = os.open(self._place, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(client.address(folder))
            listener.listen()
            os.close(folder)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", SERVER, str(listener.fileno()), *modules],
                pass_fds=[listener.fileno()],
                stdin=subprocess.DEVNULL,
            )

    @property
    def spec(self) -> str:
        """execnet's specification of a worker that is forked. Clients wait until the modules are imported."""
        command = shlex.join([sys.executable, "-I", "-S", str(client.__file__), self._place])
        return f"popen//python={command}"

    def close(self) -> None:
        """End the server. Its workers have ended."""
        self._process.kill()
        self._process.wait()


class Joining:
    """Starts another worker when a cell begins, as long as the stack may have one more."""

    def __init__(self, plan: Plan, config: pytest.Config) -> None:
        self._plan = plan
        self._config = config

    def pytest_runtest_logstart(self) -> None:
        """Called when a worker begins a cell: all cells are collected."""
        session = self._config.pluginmanager.getplugin("dsession")
        workers = len(session._active_nodes)
        # A worker holds two cells at least: the one that runs, and the next.
        if not session.shuttingdown and len(session.sched.pending) > 1 and workers < self._plan.workers():
            join(session)


def join(session: Any) -> None:
    """Start one more worker in xdist's `session`, like those it began with."""
    manager = session.nodemanager
    spec = execnet.XSpec(str(manager.specs[0]))
    manager.group.allocate_id(spec)
    session._active_nodes.add(manager.setup_node(spec, session.queue.put))
