"""Processes that are measured: on the clock, with the most memory they held, their words in a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from harness.errors import CompatError

T = TypeVar("T")

_running: set[int] = set()


@dataclass(frozen=True, slots=True)
class Took:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    """Its own processor time: what others do on the machine takes little part in it."""
    peak_bytes: int


def timed(
    command: Sequence[str], *, log: Path, cwd: Path, environ: Mapping[str, str], statuses: Sequence[int] = (0,)
) -> Took:
    """Run a process to its end.

    Raises:
        CompatError: it ends with a status that is not among `statuses`, so that its time says nothing.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as out:
        # A group of its own: what it starts ends with it.
        process = subprocess.Popen(
            command, cwd=cwd, env=dict(environ), stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        _running.add(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end(process.pid)
            raise
        finally:
            _running.discard(process.pid)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        raise CompatError(
            f"{' '.join(command[:6])} ... ended with status {process.returncode}",
            where=str(log),
            meaning="A way that fails is no way to compare with.",
            todo="Read its last lines; what was measured before is in the table.",
        )
    # Linux counts memory in KiB.
    return Took(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def side_by_side(work: Callable[[T], None], items: Sequence[T], jobs: int) -> float:
    """Seconds until `work` is done with all items, `jobs` at once.

    Raises:
        CompatError: as `work` does.
    """
    start = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for _ in pool.map(work, items):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_all()
            raise
    return time.perf_counter() - start


def end_all() -> None:
    """End what runs, with all it started."""
    for group in tuple(_running):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)


def pinned() -> dict[str, str]:
    """The environment of every way alike: one thread a process, bytecode kept, and nothing of an active environment."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV", "COMPAT_", "PYTEST_", "NOX")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**inherited, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
