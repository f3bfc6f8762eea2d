"""The own time of a cell: without the time in which it waits for a core on a busy machine. Its time limit counts it.

The timer of `time_limit` counts wall-clock time, because it also ends a cell that holds the interpreter lock. A thread
starts it again for the time that is left. A process that sleeps or hangs does not wait for a core, and ends as before.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 1.0
"""Seconds between two looks at the time that the process waited."""

MOST = 10
"""The limit is extended to this many times at most, so that it ends on a machine that never gives the cell a core."""

_EXECUTION = "finetune_compat.cell.execution"
"""The module that imports the stack. The limit of a cell begins after it."""


def waited_s() -> float:
    """Seconds in which the main thread could have run and had no core; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def used_s() -> float:
    """CPU seconds of this process so far, with those of its child processes that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@contextmanager
def own_time(seconds: float) -> Iterator[None]:
    """While open, inside `limited(seconds)`, the limit is extended by the time that the process waits for a core."""
    over = threading.Event()
    thread = threading.Thread(target=_extend, args=(seconds, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # it must not start the timer again after its end


def _extend(seconds: float, over: threading.Event) -> None:
    begin, waited = time.monotonic(), waited_s()
    while not over.wait(min(EVERY_S, seconds / 4)):
        if not _imported():
            begin, waited = time.monotonic(), waited_s()  # the imports have a limit of their own
            continue
        taken = time.monotonic() - begin
        left = seconds - taken + min(waited_s() - waited, (MOST - 1) * seconds)
        if left <= 0:
            return
        faulthandler.dump_traceback_later(left, exit=True)


def _imported() -> bool:
    found = sys.modules.get(_EXECUTION)
    return found is not None and not getattr(found.__spec__, "_initializing", False)
