"""Write files atomically, lock them, and read JSON. Standard library only, because cells import this module."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError
from finetune_compat.machine.foreign import parsed, read_whole

UNFINISHED = ".part-"
"""Prefix of the names of temporary files. A killed process leaves its temporary files behind."""


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary file in the directory of `path`. On exit it replaces `path`; after an error it is removed.

    With `durable` the new file is on the disk when this returns: after a power failure it is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)  # mkstemp's files are private; runs and stores are shared between users
        if durable:
            sync(part)
        part.replace(path)
        if durable:
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Replace `path` with `content`, text as UTF-8. A reader sees the old file or the new file. `durable`: see
    `replacing`.
    """
    with replacing(path, durable=durable) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def making(folder: Path) -> Iterator[Path]:
    """A temporary directory next to `folder`. On exit it is renamed to `folder`; after an error it is removed.

    Raises:
        OSError: `folder` exists and is not empty.
    """
    with _next_to(folder) as whole:
        yield whole
        whole.rename(folder)


@contextlib.contextmanager
def remaking(folder: Path) -> Iterator[Path]:
    """A temporary directory next to `folder`. On exit it replaces `folder` and everything in it; after an error it is
    removed, and `folder` is unchanged.
    """
    with _next_to(folder) as whole:
        yield whole
        if folder.exists():
            _exchange(whole, folder)
        else:
            whole.rename(folder)


def _exchange(one: Path, other: Path) -> None:
    """Exchange the names of two directories of one file system. On Linux there is no moment without either."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        here = ctypes.c_int(_AT_FDCWD)
        if libc.renameat2(here, bytes(one), here, bytes(other), _RENAME_EXCHANGE) == 0:
            return
    aside = one.with_name(f"{one.name}.aside")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


_AT_FDCWD = -100
"""Linux: a relative path is relative to the current directory."""

_RENAME_EXCHANGE = 2
"""Linux: exchange both names atomically. Some file systems cannot."""


@contextlib.contextmanager
def _next_to(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        whole = Path(scratch, folder.name)
        whole.mkdir()
        yield whole


def append(path: Path, content: bytes) -> None:
    """Append whole lines in one write, so that parallel processes do not mix their lines.

    Raises:
        OSError: not all of it could be written. On a full disk the last line is incomplete, and the next process that
            appends continues it.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while content:
            content = content[os.write(handle, content) :]
    finally:
        os.close(handle)


def link_atomically(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`. A reader sees the old link or the new link."""
    with tempfile.TemporaryDirectory(dir=link.parent, prefix=f".{link.name}.") as scratch:
        new = Path(scratch) / link.name
        new.symlink_to(target)
        new.replace(link)


@contextlib.contextmanager
def locked_file(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created if missing.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def locked(run: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the run's lock, so that parallel sessions write its derived files one after another."""
    return locked_file(run / ".lock")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_directory(path: Path, option: str, such_as: str) -> None:
    """Refuse an output path that is a directory, before anything is written.

    Raises:
        CompatError: `path` is a directory.
    """
    if path.is_dir():
        raise CompatError("it is a directory", where=f"{option} {path}", todo=f"Name a file, such as {such_as}.")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in `file`.

    Raises:
        CompatError: the file is missing, cannot be read, or is not a JSON object.
    """
    try:
        raw = parsed(read_whole(file))
    except OSError as error:
        raise CompatError(
            f"cannot be read: {error.strerror}",
            where=str(file),
            todo="Check the path. If a folder was named, this file must be in it.",
        ) from None
    except ValueError as error:
        raise CompatError(
            str(error).removeprefix("is "),
            where=str(file),
            meaning="It was cut off, or edited by hand.",
            todo="Take the file from the model's repository again.",
        ) from None
    if not isinstance(raw, dict):
        raise CompatError(
            f"not a JSON object but {type(raw).__name__}",
            where=str(file),
            todo="Take the file from the model's repository again.",
        )
    return raw
