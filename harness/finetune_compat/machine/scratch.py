"""Room for what cells write and nobody keeps. It belongs to the process that hands the cells out, and goes with it: at
once where that ends in order, else before the next cells run, in whatever run.

    <run>/scratch/<stack>         models and outputs of cells
    <run>/scratch/<stack>.held    locked by the process it belongs to; the kernel gives the lock back however that ends
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

SCRATCH = "scratch"
"""Its folder in a run."""

_HELD = ".held"


@contextlib.contextmanager
def held(folder: Path, runs: Path) -> Iterator[None]:
    """While open `folder`, of a run among `runs`, is there and this process's; then it is gone. What belonged to
    processes that were killed goes first.
    """
    sweep(runs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = folder.with_name(f"{folder.name}{_HELD}")
    with mark.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder.mkdir(exist_ok=True)
        try:
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            mark.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another stack of this run may have its room in it
                folder.parent.rmdir()


def sweep(runs: Path) -> None:
    """Remove what belonged to processes that are gone."""
    for mark in runs.glob(f"*/{SCRATCH}/*{_HELD}"):
        with contextlib.suppress(OSError), mark.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.with_name(mark.name.removesuffix(_HELD)), ignore_errors=True)
            mark.unlink()
            mark.parent.rmdir()
