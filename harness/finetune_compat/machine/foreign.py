"""Read files from elsewhere. Limits on size, expansion, nesting and digits: no file can hang or exhaust a command.

A file larger than `LARGEST`, a compressed file that expands further than `most_of`, and JSON nested deeper than
`DEEPEST` are refused. Every refusal is a ValueError whose message is a predicate of the file. Standard library only.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import tarfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

DEEPEST = 100
"""Maximum number of nested lists and objects; files of PEFT and Transformers have about five."""

LARGEST = 64 * 1024 * 1024
"""Maximum size in bytes of a file that is read as a whole. The largest measured one, a tokenizer.json, has 33 MB."""

LONGEST_TOML = 4 * 1024 * 1024
"""Maximum number of characters of a TOML file. Python reads a million of them in a second."""

LONGEST_NUMBER = 20
"""Maximum number of digits of a whole number in JSON: those of 2^64. Longer ones cannot be printed everywhere."""

EXPANSION = 30
"""Bytes that one compressed byte may become. The results of a whole matrix expand 19 times, gzip's maximum is 1,032."""

FREE = 16 * 1024 * 1024
"""Bytes that a compressed file of any size may become. Small results expand up to 40 times."""

MOST_MEMBERS = 100_000
"""Maximum number of files in an archive. The results of a whole matrix are 7,000 files."""

_LONGEST_EXTENSION = 64 * 1024
"""Maximum size in bytes of a tar header that extends another. One holds a path, of at most 4 kB."""


def read_whole(path: Path, most: int = LARGEST) -> bytes:
    """The content of the regular file `path`.

    Raises:
        ValueError: it is a device or a pipe, or has more than `most` bytes.
        OSError: it cannot be read.
    """
    # O_NONBLOCK: opening a pipe without a writer would wait for one.
    with open(path, "rb", opener=_without_waiting) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")
        if found.st_size > most:
            raise ValueError(f"has {found.st_size:,} bytes, and at most {most:,} are read")
        return file.read(most)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(path: Path, most: int = LARGEST) -> str:
    """The text of the regular file `path`, which must be UTF-8.

    Raises:
        ValueError: as for `read_whole`, or it is not UTF-8.
        OSError: it cannot be read.
    """
    return read_whole(path, most).decode("utf-8")


def parsed(data: bytes, **options: Any) -> Any:
    """Parse JSON in UTF-8. `options` are those of `json.loads`.

    Raises:
        ValueError: the data is not JSON, or is nested more than `DEEPEST` levels deep. The message is a predicate of
            the file, for example "is not JSON: ...".
    """
    try:
        found = json.loads(data.decode("utf-8"), **{"parse_int": _whole, **options})
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    if _deeper_than(DEEPEST, found):
        raise ValueError(_TOO_DEEP)
    return found


def parsed_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ValueError: the text is too long, is not TOML, or is nested more than `DEEPEST` levels deep. The message is a
            predicate of the file.
    """
    if len(text) > LONGEST_TOML:
        raise ValueError(f"has {len(text):,} characters, and at most {LONGEST_TOML:,} are read")
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"is not TOML: {error}") from None
    if _deeper_than(DEEPEST, found):
        raise ValueError(_TOO_DEEP)
    return found


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


_TOO_DEEP = f"is nested more than {DEEPEST} levels deep"


def _deeper_than(levels: int, value: Any) -> bool:
    inside = _with_items([value])
    for _ in range(levels):
        inside = _with_items(item for each in inside for item in (each.values() if isinstance(each, dict) else each))
    return bool(inside)


def _with_items(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]


# ---------------------------------------------------------------------------------------------------------- compressed


def most_of(compressed: int) -> int:
    """Most bytes that a file of `compressed` bytes may become."""
    return FREE + EXPANSION * compressed


def expanded(path: Path) -> bytes:
    """The content of the gzip file `path`.

    Raises:
        ValueError: it expands too far.
        OSError, EOFError, zlib.error: it cannot be read, or is not a complete gzip file.
    """
    with _Expanding(path) as file:
        return file.read(-1)


class _Expanding:
    """A gzip file that is read once, from the beginning to the end, and not beyond `most_of` its size."""

    def __init__(self, path: Path) -> None:
        size = path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"has {size:,} bytes, and at most {LARGEST:,} are read")
        self._file = gzip.open(path, "rb")  # noqa: SIM115 - `__exit__` closes it
        self._left = most_of(size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or all of the rest for -1."""
        found = self._file.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(found)
        if self._left < 0:
            raise ValueError(f"expands to more than {EXPANSION} times its size")
        return found


def members(source: Path, may: Callable[[str], bool], writer: str) -> dict[str, bytes]:
    """The content of each file of a tar.gz, by name.

    Args:
        source: the archive.
        may: whether the archive may have a file of that name.
        writer: the command that writes such archives, for the message.

    Raises:
        Refused: the archive has something else than plain files, a name twice or one that it may not have, or too many
            files.
        ValueError: it expands too far.
        OSError, EOFError, zlib.error, tarfile.TarError: it cannot be read, or is not a complete tar.gz.
    """
    files: dict[str, bytes] = {}
    # As a stream: a seek backwards would expand the archive again from its beginning.
    with _Expanding(source) as file, tarfile.open(fileobj=file, mode="r|", tarinfo=_Header) as archive:  # type: ignore[call-overload]
        for member in archive:
            if not may(member.name):
                raise Refused(f"it has a file that {writer} does not write: {member.name!r}")
            if member.name in files:
                raise Refused(f"it has two files called {member.name!r}")
            opened = archive.extractfile(member) if member.isfile() and not member.issparse() else None
            if opened is None:
                raise Refused(f"it has an entry that is not a regular file: {member.name!r}")
            if len(files) == MOST_MEMBERS:
                raise Refused(f"it has more than {MOST_MEMBERS:,} files")
            files[member.name] = opened.read()
            archive.members.clear()  # tarfile remembers every header
    return files


class Refused(ValueError):
    """An archive has contents that it may not have. The message is a sentence about the archive, `it`."""


class _Header(tarfile.TarInfo):
    """A header of an archive. tarfile reads the extension of a header as a whole, so its size is limited."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The header in `buf`."""
        found = super().frombuf(buf, encoding, errors)
        if not found.isreg() and found.size > _LONGEST_EXTENSION:
            raise Refused(f"it has a header of {found.size:,} bytes")
        return found
