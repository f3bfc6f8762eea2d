"""Start more workers for a stack while cores are idle: xdist hooks, in xdist's controller.

The host writes into the plan's `workers_file` how many workers the stack may have now, because the host knows whether
other stacks wait for a core. xdist can only replace a worker; `join` adds one in the same way.
"""

from __future__ import annotations

from typing import Any

import execnet
import pytest

from finetune_compat.contract.plan import Plan

WORTH_CELLS = 12
"""Fewest unassigned cells for which another worker is worth its start: importing the stack takes as long as about a
dozen tiny cells.
"""


class Joining:
    """Starts another worker when a cell begins, if the stack may have one and enough cells are left."""

    def __init__(self, plan: Plan, config: pytest.Config) -> None:
        self._plan = plan
        self._config = config

    def pytest_runtest_logstart(self) -> None:
        """Called when a worker begins a cell: all workers have collected by then."""
        session = self._config.pluginmanager.getplugin("dsession")
        waiting = len(session.sched.pending)
        if not session.shuttingdown and waiting >= WORTH_CELLS and len(session._active_nodes) < self._plan.workers():
            join(session)


def join(session: Any) -> None:
    """Start one more worker in xdist's `session`, with the specification of its first workers."""
    manager = session.nodemanager
    spec = execnet.XSpec(str(manager.specs[0]))
    manager.group.allocate_id(spec)
    session._active_nodes.add(manager.setup_node(spec, session.queue.put))
