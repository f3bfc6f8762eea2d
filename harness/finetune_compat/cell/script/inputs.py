"""What a watched process takes from outside its environment: files it reads, modules it loads, and hosts it asks for.

A cached result of a script counts only while these are what they were. Standard library only.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

MOST = 2000
"""Maximum number of files to note. A process that reads more has no list."""

_OF_THE_SYSTEM = ("/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LOCAL = ("", "localhost", "::1", "0.0.0.0", "::")  # noqa: S104 - names to ignore; nothing is bound


_TELEMETRY = {"_telemetry_worker", "send_telemetry", "send_example_telemetry"}
"""Functions of huggingface_hub and transformers that report use, and ignore the answer. TRL 1.9 calls them at each
training.
"""


class Inputs:
    """Notes files and hosts from Python's audit events. Files that libraries in C or Rust open are not seen."""

    def __init__(self, ignored: Iterable[str]) -> None:
        """Ignore all files below the directories `ignored`, the environment, Python and the system's directories."""
        found = (*ignored, *_OF_THE_SYSTEM, sys.prefix, sys.base_prefix, str(Path(os.__file__).parent))
        self._ignored = tuple({f"{place.rstrip('/')}/" for path in found for place in (path, os.path.realpath(path))})
        self._read: dict[str, None] = {}
        self._written: set[str] = set()
        self._made: set[str] = set()
        """Directories that the process made. What is in them is no input."""
        self._changed = False
        """Whether a file was written that had been read: the next run would read something else."""
        self._hosts: dict[str, None] = {}
        self._answered: set[str] = set()

    def begin(self) -> None:
        """Start to note. An audit hook stays for the life of the process."""
        sys.addaudithook(self._hear)
        socket.getaddrinfo = self._noting_answers(socket.getaddrinfo)

    @property
    def read(self) -> tuple[str, ...] | None:
        """Files that were read or loaded as modules, and that the process had not written before. None if there are
        too many, or if the process wrote one of them.
        """
        modules = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
        local = (path for path in modules if isinstance(path, str) and self._matters(path))
        found = sorted({*list(self._read), *local} - self._written)
        return tuple(found) if len(found) <= MOST and not self._changed else None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Other machines that the process looked up or connected to. Those that only telemetry asked are left out."""
        return tuple(self._hosts)

    @property
    def unanswered(self) -> tuple[str, ...]:
        """Those of `hosts` that had no address whenever the process looked them up: it learned nothing from them."""
        return tuple(host for host in self._hosts if host not in self._answered)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        try:
            if event == "open":
                self._opened(*arguments)
            elif event == "os.mkdir":
                self._makes(*arguments)
            elif event == "socket.getaddrinfo":
                self._asked(arguments[0])
            elif event == "socket.connect" and isinstance(arguments[1], tuple):
                self._answered.add(self._asked(arguments[1][0]))
        except Exception:  # noqa: BLE001, S110 - an instrument must not end the script
            pass

    def _opened(self, path: Any, mode: str | None, flags: int) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # a file descriptor
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - thousands of files; a Path for each costs more
        writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool(flags & _WRITES)
        if writes:
            self._changed = self._changed or whole in self._read
            self._written.add(whole)
        elif len(self._read) <= MOST and self._is_input(whole, opened_by_os=mode is None):
            self._read[whole] = None

    def _is_input(self, path: str, *, opened_by_os: bool) -> bool:
        if path in self._written or not self._matters(path):
            return False
        # os.open also opens directories, and names relative to a directory that the event does not tell.
        if opened_by_os and not os.path.isfile(path):  # noqa: PTH113 - as above
            return False
        return not (self._made and any(str(parent) in self._made for parent in Path(path).parents))

    def _makes(self, path: Any, _mode: int, directory: int) -> None:
        """The process is about to make a directory, unless it exists."""
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - as above
        if directory == -1 and not os.path.lexists(whole):
            self._made.add(whole)

    def _asked(self, host: Any) -> str:
        """Note the host, and return its name."""
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
        if name not in _LOCAL and not name.startswith("127.") and not _in_telemetry():
            self._hosts[name] = None
        return name

    def _noting_answers(self, look_up: Any) -> Any:
        """`look_up`, which notes the hosts that have an address. The event of a lookup comes before its answer."""

        @functools.wraps(look_up)
        def noting(host: Any, *arguments: Any, **named: Any) -> Any:
            found = look_up(host, *arguments, **named)
            self._answered.add(host.decode(errors="replace") if isinstance(host, bytes) else str(host or ""))
            return found

        return noting

    def _matters(self, path: str) -> bool:
        return not path.startswith(self._ignored) and not path.endswith(".pyc")


def _in_telemetry() -> bool:
    """Whether telemetry of a library is on the call stack of this thread."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        library = str(frame.f_globals.get("__name__")).partition(".")[0]
        if frame.f_code.co_name in _TELEMETRY and library in ("huggingface_hub", "transformers"):
            return True
        frame = frame.f_back
    return False
