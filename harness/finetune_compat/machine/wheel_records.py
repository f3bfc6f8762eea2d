"""The files of installed packages, and the hashes of them in their wheels' RECORD. Standard library only: both sides
use it.

Installers hard-link files from a cache, so one edit in place changes every environment that has the file. The RECORD
still has the hash of the wheel's file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CODE = (".py", ".pth")
"""Suffixes of files that Python executes."""

LIBRARY = ".so"
"""Suffix of libraries that Python loads."""

OF_TOOLS = frozenset({"_virtualenv.py", "_virtualenv.pth"})
"""Files without a package that uv and virtualenv put into every environment."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file of an installed package, as its wheel has it."""

    package: str
    """Name and version, for example `peft-0.21.2`."""
    sha256: str
    """In the encoding of RECORD. Empty if it has none, as for RECORD itself."""
    size: int | None


def recorded(site: Path) -> dict[str, Recorded]:
    """Every file below the site-packages folder `site` that a package has, by path relative to `site`.

    Raises:
        OSError, ValueError: a RECORD cannot be read.
    """
    found: dict[str, Recorded] = {}
    for record in sorted(site.glob("*.dist-info/RECORD")):
        package = record.parent.name.removesuffix(".dist-info")
        for path, sha256, size in _rows(record.read_text(encoding="utf-8")):
            if not path.startswith(("..", "/")):
                found[path] = Recorded(package, sha256.removeprefix("sha256="), int(size) if size else None)
    return found


def _rows(text: str) -> Iterator[tuple[str, str, str]]:
    # Almost no path has a quote; splitting takes a third of the time of the parser.
    rows = csv.reader(text.splitlines()) if '"' in text else (line.rsplit(",", 2) for line in text.splitlines())
    yield from ((row[0], row[1], row[2]) for row in rows if len(row) == len(Recorded.__slots__))


def digest(path: Path | str) -> str:
    """sha256 of the file, in the encoding of RECORD.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - thousands of files; a Path for each costs more
        found = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode()


def below(site: Path) -> Mapping[str, os.stat_result]:
    """Every file and link below `site` except bytecode, by path relative to `site`. A link to a folder is one entry."""
    found: dict[str, os.stat_result] = {}
    todo = [""]
    while todo:
        folder = todo.pop()
        with os.scandir(site / folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    todo += [] if entry.name == "__pycache__" else [f"{folder}{entry.name}/"]
                elif not entry.name.endswith(".pyc"):
                    found[f"{folder}{entry.name}"] = _stat(entry)
    return found


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)  # a link to nothing
