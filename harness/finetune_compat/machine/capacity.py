"""How many stacks run at once, and how many threads each has: from the machine's cores, memory and GPUs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

CELL_BYTES = 1_000_000_000
"""Resident memory to keep for a stack with tiny cells. Measured over the 30 vision-language cells of trl1.16 on a CPU:
at most 642 MB in the worker, 49 MB in pytest's controller, 48 MB in the session's nox.
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to run on."""

    cores: int
    """That this process may use."""
    memory: int
    """Bytes that are free, or can be made free."""
    gpus: int = 0
    """That cells will be given."""


@dataclass(frozen=True, slots=True)
class Share:
    """How a machine is shared out."""

    jobs: int
    """Stacks at once."""
    threads: int
    """For each process with cells."""


def this_machine(gpus: int) -> Machine:
    """The machine as it is now; a container's limits count, as they are what ends its processes."""
    return Machine(cores=min(len(os.sched_getaffinity(0)), _quota()), memory=_free_memory(), gpus=gpus)


def share(machine: Machine, stacks: int, *, asked: int | None = None, cell_bytes: int = CELL_BYTES) -> Share:
    """Stacks at once, and threads for each of their processes.

    One stack a core, as tiny cells use one; no more than there is memory for, and never none. With GPUs one stack has
    all of them, a worker each: sessions side by side would choose the same ones. `asked` overrides all of this.
    """
    jobs = min(at_once(machine, asked=asked, cell_bytes=cell_bytes), max(stacks, 1))
    return Share(jobs=jobs, threads=max(1, machine.cores // (jobs * max(machine.gpus, 1))))


def at_once(machine: Machine, *, asked: int | None = None, cell_bytes: int = CELL_BYTES) -> int:
    """Stacks at once if there are as many; on a CPU also workers, where fewer stacks than that have cells left."""
    return max(1, asked or (1 if machine.gpus else min(machine.cores, machine.memory // cell_bytes)))


def _quota(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores' worth of time a container (cgroup v2) may use; it sees all cores of its machine."""
    try:
        time, period = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
        return _UNLIMITED if time == "max" else max(1, round(int(time) / int(period)))
    except (OSError, ValueError):
        return _UNLIMITED


def _free_memory() -> int:
    return min(_available(), _left_in_cgroup())


_UNLIMITED = 2**62


def _available(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the kernel could give to new processes without swapping; without /proc, no limit is known."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return _UNLIMITED
    return int(found[1]) * 1024 if found else _UNLIMITED


def _left_in_cgroup(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container (cgroup v2) may still use; its file cache can be made free."""
    try:
        limit = (cgroup / "memory.max").read_text(encoding="utf-8").strip()
        used = int((cgroup / "memory.current").read_text(encoding="utf-8"))
        cache = re.search(r"^inactive_file (\d+)$", (cgroup / "memory.stat").read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, ValueError):
        return _UNLIMITED
    return _UNLIMITED if limit == "max" else max(0, int(limit) - used + (int(cache[1]) if cache else 0))
