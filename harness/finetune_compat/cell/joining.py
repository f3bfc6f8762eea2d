"""More workers for a stack while cores stand idle: xdist's hooks, in its controller.

The host writes into the plan's `workers_file` how many workers the stack may have now; it knows whether other stacks
wait for a core. xdist itself can only replace a worker, which it does as is done here.
"""

from __future__ import annotations

from typing import Any

import execnet
import pytest

from finetune_compat.contract.plan import Plan

WORTH_CELLS = 12
"""Cells that no worker has yet, for which another one is worth its start: it imports the stack first, which takes as
long as about a dozen tiny cells.
"""


class Joining:
    """Starts another worker when a cell begins, as long as the stack may have one and it is worth its start."""

    def __init__(self, plan: Plan, config: pytest.Config) -> None:
        self._plan = plan
        self._config = config

    def pytest_runtest_logstart(self) -> None:
        """A worker begins a cell: all of them have been collected, and some are left."""
        session = self._config.pluginmanager.getplugin("dsession")
        waiting = len(session.sched.pending)
        if not session.shuttingdown and waiting >= WORTH_CELLS and len(session._active_nodes) < self._plan.workers():
            join(session)


def join(session: Any) -> None:
    """Start one more worker in xdist's `session`, like those it began with."""
    manager = session.nodemanager
    spec = execnet.XSpec(str(manager.specs[0]))
    manager.group.allocate_id(spec)
    session._active_nodes.add(manager.setup_node(spec, session.queue.put))
