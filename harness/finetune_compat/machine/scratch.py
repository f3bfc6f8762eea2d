"""Scratch directories: temporary files of cells, locked by the host process that runs the cells.

The process deletes its directory on exit. If it was killed, the next run deletes the directory before its cells start.

    <run>/scratch/<stack>         models and outputs of cells
    <run>/scratch/<stack>.held    locked by the process that uses it; the kernel releases the lock when the process ends
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

SCRATCH = "scratch"
"""The directory of scratch directories in a run."""

_HELD = ".held"


@contextlib.contextmanager
def held(folder: Path, runs: Path) -> Iterator[None]:
    """Create and lock `folder`; delete it on exit. First delete what killed processes left in `runs`."""
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
            with contextlib.suppress(OSError):  # not empty while another stack of this run uses its own
                folder.parent.rmdir()


def sweep(runs: Path) -> None:
    """Delete the scratch directories whose process has ended."""
    for mark in runs.glob(f"*/{SCRATCH}/*{_HELD}"):
        with contextlib.suppress(OSError), mark.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.with_name(mark.name.removesuffix(_HELD)), ignore_errors=True)
            mark.unlink()
            mark.parent.rmdir()
