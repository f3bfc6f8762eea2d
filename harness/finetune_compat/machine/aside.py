"""Work on another core, in a forked process: a report of 10,000 cells ends about 25 % sooner on two idle cores.

From CPU seconds measured on 2026-11-29 and the committed table of 2026-11-28. Reports under `run_files.MANY` cells do
not use it. Host side.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Later(Generic[T]):
    """What work will have returned when the context it is done in is over."""

    results: tuple[T, ...] = ()

    @property
    def result(self) -> T:
        """What the work returned."""
        (result,) = self.results
        return result


def another_core() -> bool:
    """Whether this process may run on more than one."""
    return len(os.sched_getaffinity(0)) > 1


@contextlib.contextmanager
def aside(work: Callable[[], T], *, worth_it: bool = True) -> Iterator[Later[T]]:
    """Have `work` done by another process while this context is open, and be done with it at its end. What it changes
    in memory is the other process's alone: it writes files, or returns what can be pickled.

    Args:
        work: called once.
        worth_it: whether it takes longer than a process; if not, or on one core, it is called at the context's end.

    Raises:
        Exception: what `work` raised.
        ChildProcessError: its process was killed.
    """
    later: Later[T] = Later()
    if not worth_it or not another_core():
        yield later
        later.results = (work(),)
        return
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=_do, args=(work, there))
    process.start()
    there.close()
    try:
        yield later
    finally:
        problem, results = _said(here)
        process.join()
    if problem is not None:
        raise problem
    later.results = results


def _do(work: Callable[[], Any], there: Connection) -> None:
    try:
        there.send((None, (work(),)))
    except Exception as problem:  # noqa: BLE001 - whoever asked for the work is told, whatever it is
        there.send((problem, ()))


def _said(here: Connection) -> tuple[Exception | None, tuple[Any, ...]]:
    try:
        problem, results = here.recv()
    except EOFError:
        return ChildProcessError("a process that did a part of this one's work was killed"), ()
    return problem, results
