"""The digest of a directory of weights. The digest of each file is cached with its size, times and inode, because files
have gigabytes.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from finetune_compat.machine.files import sha256_of, write_atomically

MEMORY = "weights.json"
"""The cache of digests, in the store. It may be removed at any time."""


def digest(directory: Path, store: Path) -> str:
    """sha256 over the names and contents of all files that are not hidden. Links (the hub's cache) are followed."""
    memory = store / MEMORY
    known = _remembered(memory)
    files = sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))
    keys = {path: _key(path) for path in files}
    found = {key: known.get(key) or sha256_of(path) for path, key in keys.items()}
    if not found.keys() <= known.keys():
        write_atomically(memory, json.dumps({**known, **found}, indent=0))
    named = [(path.relative_to(directory).as_posix(), found[keys[path]]) for path in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _key(path: Path) -> str:
    """A key that changes with the content of the file: a write changes its times, a replacement its inode."""
    real = path.resolve()
    stat = real.stat()
    return f"{real} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _remembered(memory: Path) -> dict[str, str]:
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}  # the caller writes it again
