"""A copy of the current directory for one run of a script: what the script writes there is its own. Host side.

Below a root, the current directory and the script's directory have the paths that they have below `/`. Both are copied
with what is in them. Next to them and to the directories above them are links, so that `../data` is found. Large files,
hidden directories (`.git`, `.venv`), virtual environments and what exceeds the limits are links too: whatever a script
changes there is set aside first, as in a run without a copy (`finetune_compat.cell.script.originals`).
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 2000
"""Most files that are copied."""

MOST_BYTES = 256 * 2**20
"""Most bytes of all copies together."""

LARGEST = 16 * 2**20
"""Largest file that is copied. Larger ones are data or weights, which scripts read."""

_LEFT_OUT = ("__pycache__",)


@dataclass(slots=True)
class _Left:
    """What may still be copied."""

    files: int
    size: int

    def takes(self, size: int) -> bool:
        """Whether a file of this size is copied. If so, it counts."""
        if size > LARGEST or self.files < 1 or size > self.size:
            return False
        self.files, self.size = self.files - 1, self.size - size
        return True


def own_directory(root: Path, directories: Sequence[Path], skipped: str) -> None:
    """Copy `directories` below `root`, each at its absolute path.

    Args:
        root: an existing directory.
        directories: absolute paths of directories, without symbolic links.
        skipped: beginning of the names of entries that are left out: the directories of watches, `root` among them.
    """
    wanted = {*directories}
    above = {parent for directory in directories for parent in directory.parents}
    left, waiting, seen = (
        _Left(MOST_FILES, MOST_BYTES),
        deque(dict.fromkeys((*directories, *sorted(above)))),
        set[Path](),
    )
    while waiting:
        directory = waiting.popleft()
        if directory in seen:
            continue
        seen.add(directory)
        into = _at(root, directory)
        into.mkdir(parents=True, exist_ok=True)
        copied = any(directory == one or one in directory.parents for one in wanted)
        for entry in _entries(directory, skipped):
            path, to = directory / entry.name, into / entry.name
            if path in wanted or path in above or (copied and left.files and _is_walked(entry)):
                waiting.append(path)
            elif not (copied and _copied(entry, to, left)):
                to.symlink_to(os.path.realpath(path))


def _at(root: Path, path: Path) -> Path:
    return root / path.relative_to(path.anchor)


def _entries(directory: Path, skipped: str) -> Iterator[os.DirEntry[str]]:
    """The entries of a directory; none of one that may not be read."""
    with suppress(OSError), os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
        yield from (entry for entry in found if entry.name not in _LEFT_OUT and not entry.name.startswith(skipped))


def _is_walked(entry: os.DirEntry[str]) -> bool:
    """Whether it is a directory whose content is copied."""
    if not entry.is_dir(follow_symlinks=False) or entry.name.startswith("."):
        return False
    return not Path(entry.path, "pyvenv.cfg").exists()


def _copied(entry: os.DirEntry[str], to: Path, left: _Left) -> bool:
    """Whether the entry is a file that was copied."""
    try:
        if not entry.is_file(follow_symlinks=False) or not left.takes(entry.stat(follow_symlinks=False).st_size):
            return False
        shutil.copy2(entry.path, to)
    except OSError:  # it was removed meanwhile, or may not be read
        to.unlink(missing_ok=True)
        return False
    return True
