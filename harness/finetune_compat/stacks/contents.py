"""The files of an environment, compared with its wheels: what was edited, deleted or added since they were installed.

Comparing names and versions is not enough: an edited file has the version of the original. A digest of the sizes and
times of all files is cached, so that files are read only after something changed. That takes 0.35 CPU s, and 0.7 s if
files are read.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.wheel_records import CODE, LIBRARY, OF_TOOLS, Recorded, below, digest, recorded


@dataclass(frozen=True, slots=True)
class Changed:
    """Files that differ from the wheels. Falsy if there are none."""

    edited: tuple[str, ...]
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    """Code that belongs to no package: a `sitecustomize.py`, a `.pth` file, a module that hides another."""
    packages: tuple[str, ...]
    """Names of the packages of `edited` and `missing`."""

    def __bool__(self) -> bool:
        return bool(self.edited or self.missing or self.foreign)


def changed(site: Path, memory: Path, installed_at: float, ours: frozenset[str] = frozenset()) -> Changed:
    """Compare the files below the site-packages folder `site` with the hashes of their wheels.

    Args:
        site: the folder.
        memory: the file with the cached digest; it may be removed at any time.
        installed_at: when the packages were installed, in seconds since the epoch. Of files that are not code only
            those changed later are read, because they have gigabytes; of the others the size is compared.
        ours: files that the harness adds.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    there, known = below(site), recorded(site)
    state = _state(there)
    if _remembered(memory) == state:
        return Changed((), (), (), ())
    edited = [path for path, file in known.items() if path in there and _edited(site, path, file, there, installed_at)]
    missing = [path for path in known if path not in there and not path.endswith(".pyc")]
    foreign = [path for path in there if path not in known and path not in OF_TOOLS | ours and _runs(path, there)]
    packages = {known[path].package.rpartition("-")[0] for path in (*edited, *missing)}
    found = Changed(*(tuple(sorted(each)) for each in (edited, missing, foreign, packages)))
    if not found:
        write_atomically(memory, state)
    return found


def _state(there: Mapping[str, os.stat_result]) -> str:
    """A digest that changes with every file. A write changes the times, and only the system sets the last one."""
    facts = sorted((path, at.st_size, at.st_mtime_ns, at.st_ctime_ns, at.st_ino) for path, at in there.items())
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _remembered(memory: Path) -> str | None:
    try:
        return memory.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None  # the caller writes it again


def _edited(site: Path, path: str, file: Recorded, there: Mapping[str, os.stat_result], installed_at: float) -> bool:
    at = there[path]
    if file.size is not None and file.size != at.st_size:
        return True
    read = path.endswith(CODE) or at.st_mtime > installed_at
    return bool(file.sha256) and read and digest(f"{site}/{path}") != file.sha256


def _runs(path: str, there: Mapping[str, os.stat_result]) -> bool:
    """Whether Python may run a file. A link to a folder may be a package."""
    return path.endswith((*CODE, LIBRARY)) or stat.S_ISDIR(there[path].st_mode)
