"""How many stacks run in parallel, and with how many threads: from the machine's cores, memory and GPUs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CELL_BYTES = 1_000_000_000
"""Resident memory to reserve for a stack with tiny models. Measured with the 30 vision-language cells of trl1.16 on a
CPU: at most 642 MB in the worker, 49 MB in pytest's controller, 48 MB in the session's nox.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """The resources that cells may use."""

    cores: int
    """CPU cores that this process may use."""
    memory: int
    """Bytes of memory that are free or reclaimable."""
    gpus: int = 0
    """GPUs that cells run on."""


@dataclass(frozen=True, slots=True)
class Share:
    """How stacks share a machine."""

    jobs: int
    """Parallel stacks."""
    threads: int
    """Threads of each process that runs cells."""


def this_machine(gpus: int) -> Machine:
    """The resources of this machine now, within the limits of its container."""
    return Machine(cores=min(len(os.sched_getaffinity(0)), _quota()), memory=_free_memory(), gpus=gpus)


def share(machine: Machine, stacks: int, *, asked: int | None = None, cell_bytes: int = CELL_BYTES) -> Share:
    """The number of parallel stacks, and of threads in each of their processes.

    On a CPU: one stack per core, because cells with tiny models use one thread; fewer if memory is short, at least one.
    On GPUs: one stack at a time uses all of them, with one worker per GPU, because parallel sessions would choose the
    same GPUs. `asked` sets the number of parallel stacks.
    """
    jobs = min(at_once(machine, asked=asked, cell_bytes=cell_bytes), max(stacks, 1))
    return Share(jobs=jobs, threads=max(1, machine.cores // (jobs * max(machine.gpus, 1))))


def at_once(machine: Machine, *, asked: int | None = None, cell_bytes: int = CELL_BYTES) -> int:
    """The most parallel stacks; on a CPU also the most workers, when fewer stacks than that have cells left."""
    return max(1, asked or (1 if machine.gpus else min(machine.cores, machine.memory // cell_bytes)))


def _quota(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that a container's CPU quota (cgroup v2) amounts to. A container sees all cores of its machine."""
    try:
        time, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return _UNLIMITED if time == "max" else max(1, round(int(time) / int(period)))
    except (OSError, ValueError):
        return _UNLIMITED


def _free_memory() -> int:
    return min(_available(), _left_in_cgroup())


_UNLIMITED = 2**62


def _available(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that new processes can use without swapping; unlimited without /proc."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return _UNLIMITED
    return int(found[1]) * 1024 if found else _UNLIMITED


def _left_in_cgroup(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a container (cgroup v2) may still use. Its inactive file cache counts as free."""
    try:
        limit = (cgroup / "memory.max").read_text(encoding="utf-8").strip()
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
        cache = re.search(r"^inactive_file (\d+)$", (cgroup / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return _UNLIMITED
    return _UNLIMITED if limit == "max" else max(0, int(limit) - used + (int(cache[1]) if cache else 0))
