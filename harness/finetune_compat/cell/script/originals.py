"""Set the user's files aside before a watched script changes, replaces or removes them. The host puts them back.

The script reads back what it wrote, because every path stays the same: at the path is a copy, or an empty file where
the script overwrites everything. The original is moved within its file system, and nothing writes to it.

Python raises an audit event before each of these changes, whichever library asks for it (PEP 578). Libraries that open
files in C++ or Rust raise none: `writing` wraps them by name. Programs that the script starts are not followed, unless
they are Python.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from finetune_compat.contract.script import ORIGINALS, OUTSIDE, Original

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_TRUNC | os.O_CREAT
"""Flags of an open file, of which each can change it or make it."""

_CACHES = ("HF_HOME", "TORCH_HOME", "MPLCONFIGDIR")
"""Variables that name a cache, in addition to those with CACHE in their name."""

_DEFAULT_CACHES = ("~/.cache", "~/.triton", "~/.nv")

_SQLITE = ("", "-wal", "-shm", "-journal")
"""Endings of the files of an SQLite database."""

ASIDE = ".originals"
"""End of the name of a directory of originals. It begins with a point and the name of the watch's folder."""

_WITHOUT_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)
"""Errors of file systems that have no hard links, or no more of a file."""

_NO_DIRECTORY = -1
"""The file descriptor that audit events report if a path is not relative to one."""


class Originals:
    """The files that existed before the script. Those in caches of libraries are left out: they are not its output, and
    other processes lock them.
    """

    def __init__(self, folder: Path, *, together: bool = False) -> None:
        """
        Args:
            folder: the request's folder, common to all processes of the script.
            together: whether other runs of the script run at the same time. They must not see each other's files, and
                an original can be set aside by one of them only. So the process ends before it changes any file
                outside `folder`, and the host runs the script again when it is alone.
        """
        self._together = together
        self._inside = threading.local()
        self.begin_again(folder)
        self._events: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "os.remove": lambda path, directory=_NO_DIRECTORY: self._leaves(_named(path, directory)),
            "os.rmdir": lambda path, directory=_NO_DIRECTORY: self._removes_directory(_named(path, directory)),
            "os.mkdir": lambda path, mode=0, directory=_NO_DIRECTORY: self._makes(_named(path, directory)),
            "os.rename": self._renamed,
            "os.truncate": lambda path, length=0: self._alters(path),
            "os.chmod": lambda path, mode=0, directory=_NO_DIRECTORY: self._alters(path, directory),
            "os.chown": lambda path, user=0, group=0, directory=_NO_DIRECTORY: self._alters(path, directory),
            "os.utime": lambda path, times=None, ns=None, directory=_NO_DIRECTORY: self._alters(path, directory),
            "os.setxattr": lambda path, *_: self._alters(path),
            "os.removexattr": lambda path, *_: self._alters(path),
            "sqlite3.connect": self._connected,
        }

    def begin_again(self, folder: Path) -> None:
        """Note everything in `folder` from now on: this process was forked from one that only imported libraries."""
        self._folder = folder.resolve()
        self._decided: set[str] = set()
        """Paths that need nothing more: their original is set aside."""
        self._made: set[str] = set()
        """Paths that the script made. They are its own, and so is what is below them."""
        self._offset = 0
        """How much of the record was read."""

    def watch(self) -> None:
        """Follow this process to its end. There is no way back: Python removes no audit hook."""
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Before Python does what it reports as `event`, set aside what that would change.

        Raises:
            PermissionError: it cannot be set aside, so Python must not do it.
        """
        handle = self._events.get(event)
        if handle is None or getattr(self._inside, "now", False):
            return
        self._inside.now = True
        try:
            handle(*arguments)
        finally:
            self._inside.now = False

    def writing(self, original: Callable[..., Any], position: int, name: str) -> Callable[..., Any]:
        """`original`, which overwrites the file that its argument `name` names, if that is a path."""

        @functools.wraps(original, updated=())  # a class has attributes that a function must not get
        def write(*args: Any, **kwargs: Any) -> Any:
            place = args[position] if position < len(args) else kwargs.get(name)
            if isinstance(place, str | bytes | os.PathLike):
                self.heard("open", (place, "wb", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
            return original(*args, **kwargs)

        return write

    # ----------------------------------------------------------------------------------------------------------- events

    def _opened(self, path: Any, mode: object, flags: object) -> None:
        if not isinstance(flags, int) or not flags & _WRITES or isinstance(path, int):
            return
        place = os.path.realpath(_named(path))  # the content is where a link leads
        if not os.path.lexists(place):
            self._makes(place)
        elif not flags & os.O_EXCL and os.access(place, os.W_OK):
            self._leaves(place, content=not flags & os.O_TRUNC)

    def _connected(self, database: Any, *_: Any) -> None:
        if isinstance(database, str | os.PathLike) and not str(database).startswith(("file:", ":")) and str(database):
            for ending in _SQLITE:
                self._opened(f"{os.fspath(database)}{ending}", None, os.O_RDWR)

    def _alters(self, path: Any, directory: int = _NO_DIRECTORY) -> None:
        if not isinstance(path, int):  # an open file was followed when it was opened
            self._leaves(os.path.realpath(_named(path, directory)), content=True)

    def _renamed(self, source: Any, target: Any, *directories: int) -> None:
        one, other = map(_named, (source, target), directories or (_NO_DIRECTORY, _NO_DIRECTORY))
        if _is_directory(one) and not self._is_own(one) and not self._is_left_out(one):
            raise _refused(one, "be moved away", "it existed before the script")
        # A copy is moved, and not the original: what is then at the new name must be the script's.
        self._leaves(one, content=True)
        if _is_directory(other):
            self._removes_directory(other)
        elif os.path.lexists(other):
            self._leaves(other)
        else:
            self._makes(other)

    def _removes_directory(self, place: str) -> None:
        with contextlib.suppress(OSError):  # Python will say so
            if os.listdir(place):
                return
            mode = stat.S_IMODE(os.lstat(place).st_mode)
            with self._deciding(place) as record:
                if record and place not in self._decided and not self._is_own(place):
                    self._note(record, Original(place, mode=mode))

    def _makes(self, place: str) -> None:
        if self._is_own(place) or os.path.lexists(place):
            return
        with self._deciding(place) as record:
            if record and not self._is_own(place):
                self._note(record, Original(place, made=True))

    # ---------------------------------------------------------------------------------------------------- setting aside

    def _leaves(self, place: str, *, content: bool = False) -> None:
        """What is at `place` is about to be changed: set it aside, and leave a copy there, or an empty file."""
        try:
            kind = os.lstat(place).st_mode
        except OSError:
            return  # Python will say so
        if place in self._decided or not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
            return
        with self._deciding(place) as record:
            if record and place not in self._decided and not self._is_own(place):
                self._set_aside(record, place, content=content)

    def _set_aside(self, record: int, place: str, *, content: bool) -> None:
        problem: OSError | None = None
        for directory in self._directories(place):
            aside, new = directory / f"{self._offset}", directory / f"{self._offset}.new"
            one = Original(place, str(aside))
            try:
                directory.mkdir(0o700, exist_ok=True)
                if content:
                    shutil.copy2(place, new, follow_symlinks=False)
                else:
                    new.touch()
                    new.chmod(stat.S_IMODE(os.stat(place).st_mode) if os.path.exists(place) else 0o600)
                # For a person, if the watch and its record are lost, as after a power failure.
                with (directory / ORIGINALS).open("ab") as file:
                    file.write(one.line())
                self._note(record, one)
                _move(place, aside)
                new.replace(place)
            except OSError as error:
                problem = error
                _undo(place, aside, new)
            else:
                self._learn(one)
                return
        raise _refused(
            place, "be overwritten or removed", f"it cannot be set aside ({problem or 'no directory for it'})"
        )

    def _directories(self, place: str) -> Iterator[Path]:
        """Directories for originals, on the file system of `place`, as far as possible from what a script removes."""
        device = os.lstat(place).st_dev
        places = [Path(os.path.expanduser("~")), Path(tempfile.gettempdir()), *reversed(Path(place).parents)]
        above = [one.resolve() for one in places if Path(place).is_relative_to(one.resolve())]
        for one in dict.fromkeys(above):
            if one.stat().st_dev == device and os.access(one, os.W_OK):
                yield one / f".{self._folder.name}{ASIDE}"

    # ------------------------------------------------------------------------------------------------------- the record

    @contextlib.contextmanager
    def _deciding(self, place: str) -> Iterator[int]:
        """The record, locked: only one thread of all processes of the script decides at a time. 0 if `place` is left
        out.

        Raises:
            PermissionError: the watch has ended, or originals are there.
        """
        if f"{os.sep}.{self._folder.name}{ASIDE}{os.sep}" in f"{place}{os.sep}":
            raise _refused(place, "be changed", "originals are there until the script ends")
        if self._is_left_out(place):
            yield 0
            return
        if self._together:
            with contextlib.suppress(FileExistsError), (self._folder / OUTSIDE).open("x", encoding="utf-8") as file:
                file.write(place)
            os._exit(1)
        try:
            record = os.open(self._folder / ORIGINALS, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError:
            raise _refused(place, "be changed", "the watch has ended, and this process has not") from None
        try:
            fcntl.flock(record, fcntl.LOCK_EX)
            self._read(record)
            yield record
        finally:
            # A process that another thread has just forked has the file open too: closing it alone does not unlock it.
            fcntl.flock(record, fcntl.LOCK_UN)
            os.close(record)

    def _read(self, record: int) -> None:
        """Learn what other processes of the script have decided."""
        end = os.fstat(record).st_size
        lines = os.pread(record, end - self._offset, self._offset).splitlines()
        self._offset = end
        for line in lines:
            self._learn(Original(**json.loads(line)))

    def _note(self, record: int, one: Original) -> None:
        """Write `one` before it is done: whatever happens afterwards, the host can undo it."""
        line = one.line()
        if os.write(record, line) != len(line):
            os.ftruncate(record, self._offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._offset += len(line)
        self._learn(one)

    def _learn(self, one: Original) -> None:
        if one.made:
            self._made.add(one.path)
        elif not one.aside or os.path.lexists(one.aside):  # otherwise it failed
            self._decided.add(one.path)

    def _is_own(self, place: str) -> bool:
        return place in self._made or any(str(above) in self._made for above in Path(place).parents)

    def _is_left_out(self, place: str) -> bool:
        path = Path(place)
        return (
            path.is_relative_to(self._folder)
            or "__pycache__" in path.parts
            or (path.is_symlink() and path.readlink().is_relative_to(self._folder))
            or any(path.is_relative_to(cache) for cache in _caches())
        )


def _caches() -> Iterator[str]:
    named = (value for name, value in os.environ.items() if "CACHE" in name or name in _CACHES)
    for place in (*named, *map(os.path.expanduser, _DEFAULT_CACHES)):
        if os.path.isabs(place) and os.path.isdir(place) and os.path.dirname(os.path.realpath(place)) != os.sep:
            yield os.path.realpath(place)


def _named(path: Any, directory: int = _NO_DIRECTORY) -> str:
    """The absolute path of `path`, without symbolic links in its directories. A link itself stays."""
    text = os.fsdecode(path)
    if directory != _NO_DIRECTORY and not os.path.isabs(text):
        text = os.path.join(_of_descriptor(directory), text)
    head, tail = os.path.split(text.rstrip(os.sep) or os.sep)
    return os.path.realpath(text) if tail in ("", ".", "..") else os.path.join(os.path.realpath(head), tail)


def _of_descriptor(directory: int) -> str:
    if hasattr(fcntl, "F_GETPATH"):  # macOS
        return os.fsdecode(fcntl.fcntl(directory, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{directory}")


def _is_directory(place: str) -> bool:
    return os.path.isdir(place) and not os.path.islink(place)


def _move(place: str, aside: Path) -> None:
    """Move the file at `place`. With a hard link, there is no moment without a file at `place`."""
    try:
        os.link(place, aside, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        os.rename(place, aside)


def _undo(place: str, aside: Path, new: Path) -> None:
    """After an error, leave the original at `place`, and nothing aside."""
    with contextlib.suppress(OSError):
        new.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        if not os.path.lexists(place):
            os.rename(aside, place)
        elif os.path.samestat(os.lstat(aside), os.lstat(place)):
            aside.unlink()
    with contextlib.suppress(OSError):
        aside.parent.rmdir()  # unless other originals are there


def _refused(place: str, what: str, why: str) -> PermissionError:
    return PermissionError(
        errno.EPERM, f"compat watch lets nothing of yours {what}, and {why}. Watch a copy of the directory", place
    )
