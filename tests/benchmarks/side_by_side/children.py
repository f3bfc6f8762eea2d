"""Measured processes: wall-clock time, maximum memory, and output in a log."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from finetune_compat.contract.errors import CompatError

T = TypeVar("T")

TELL_EVERY_S = 60.0
"""Seconds between two reads of a long process's output."""

SAMPLE_EVERY_S = 0.02
"""Seconds between two samples of memory."""

_running: set[int] = set()


@dataclass(frozen=True, slots=True)
class Took:
    """Time and memory of one process, with the children that it waited for."""

    seconds: float
    cpu_seconds: float
    """Processor time, which other processes on the machine change little."""


def timed(
    command: Sequence[str], *, log: Path, cwd: Path, environ: Mapping[str, str], statuses: Sequence[int] = (0,)
) -> Took:
    """Run a process to its end.

    Raises:

    CompatError: it ends with a status that is not in `statuses`, so that its time means nothing.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("w") as out:
        # A process group, so that its children end with it.
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
    return Took(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)


@contextlib.contextmanager
def progress(log: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Print the last line of a process's log from time to time."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(TELL_EVERY_S):
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
            last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing yet")
            tell(f"  {log.stem}: {last}")

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def sampled() -> Iterator[list[int]]:
    """Sample the memory of the processes that `timed` runs, with their children; shared memory is counted once. At exit
    a list with the maximum in bytes is filled.
    """
    over, most, found = threading.Event(), [0], list[int]()

    def look() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            most[0] = max(most[0], sum(map(_held, _groups())))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        found.append(most[0])


def _groups() -> list[int]:
    """Processes of the groups that run."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208 - names alone
    return [pid for pid in pids if _group(pid) in _running]


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _held(pid: int) -> int:
    """Bytes of a process, with its share of shared memory; 0 if it has ended."""
    try:
        found = re.search(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def side_by_side(work: Callable[[T], None], items: Sequence[T], jobs: int) -> float:
    """Return the seconds until `work` has finished all items, `jobs` in parallel.

    Raises:

    CompatError: `work` raised it.
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
    """End running processes with their children."""
    for group in tuple(_running):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGTERM)


def pinned() -> dict[str, str]:
    """The environment of every way: one thread per process, bytecode stored, and no active virtual environment."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV", "COMPAT_", "PYTEST_", "NOX")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**inherited, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
