"""Hashed requirements files in the format that uv writes: the locks of this project and of bundles."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;\\]+)( ;[^\\]*[^\\\s])?((?: \\)?)")
_HASH = "    --hash=sha256:"
_HASH_LENGTHS = (len(_HASH) + 64, len(_HASH) + 64 + len(" \\"))


class Malformed(Exception):
    """A file is not in this format. The message states the fault."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A package of a hashed requirements file."""

    name: str
    """Canonical."""
    version: str
    hashes: frozenset[str]
    """SHA-256 of every permitted file."""

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def pins_of(lines: Iterable[str], *, first_line: int = 1, markers: bool = False) -> tuple[Pin, ...]:
    """The packages of a hashed requirements file in the format that uv writes.

    Args:
        lines: the lines, without a header.
        first_line: the number of the first line, for messages.
        markers: whether a package may have an environment marker. The marker is not evaluated.

    Raises:
        Malformed: a line is neither a pin nor a hash, a package is repeated or has no hash, or there is no package.
    """
    size = len(_HASH)
    return tuple(
        Pin(name, version, frozenset(line[size : size + 64] for line in hashes))
        for name, version, hashes in _packages(lines, first_line, markers=markers)
    )


def locked_versions(lines: Iterable[str], *, first_line: int) -> dict[str, str]:
    """Version by canonical name: as `pins_of`, without hashes and markers, in half the time."""
    return {name: version for name, version, _ in _packages(lines, first_line, markers=False)}


def _packages(lines: Iterable[str], first_line: int, *, markers: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Name, version and hash lines of each package."""
    names: set[str] = set()
    hashes: list[str] = []
    name, version, line = "", "", ""
    for number, line in enumerate(lines, first_line):
        # 90 % of the lines are hashes, 140,000 in all locks: a regular expression would be slow. uv checks the digits.
        if line.startswith(_HASH) and len(line) in _HASH_LENGTHS and name:
            hashes.append(line)
            continue
        match = _PIN.fullmatch(line)
        if match is None or (match[3] and not markers) or (name and not hashes):
            raise Malformed(f"line {number} is neither `name==version` nor one of its hashes: {line!r}")
        if name:
            yield name, version, hashes
        name, version, hashes = canonicalize_name(match[1]), match[2], []
        if name in names or not _is_version(version):
            raise Malformed(f"line {number} repeats a package or has no version: {line!r}")
        names.add(name)
    if not hashes or line.endswith("\\"):
        raise Malformed("the hashes of its last package are missing or incomplete")
    yield name, version, hashes


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
