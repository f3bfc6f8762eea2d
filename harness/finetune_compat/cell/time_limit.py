"""The time limit of a cell. Beyond it the process ends, and xdist replaces the worker: only this cell is lost."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

IMPORT_LIMIT_S = 900.0
"""Seconds for the imports of a stack. They take 13 CPU seconds without bytecode. A busy machine gives a process a small
share of a core.
"""

_limits: list[float] = []
"""The limit that applies now, in seconds; empty if there is none."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """While open, the process may take `seconds`. After that it prints its stacks and ends."""
    _limits.append(seconds)
    _start(seconds)
    try:
        yield
    finally:
        _limits.clear()
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def importing() -> Iterator[None]:
    """While open, `IMPORT_LIMIT_S` applies if it is longer. On exit the limit starts again: the imports of a stack are
    no part of the cell that happens to be first.
    """
    for limit in _limits:
        _start(max(limit, IMPORT_LIMIT_S))
    try:
        yield
    finally:
        for limit in _limits:
            _start(limit)


def _start(seconds: float) -> None:
    # faulthandler uses a C thread: it fires even while an extension holds the interpreter lock.
    faulthandler.dump_traceback_later(seconds, exit=True)
