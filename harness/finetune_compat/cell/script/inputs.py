"""What a watched process takes from outside its environment: files it reads, modules it loads, and hosts it asks for.

A cached result of a script counts only while these are what they were. Standard library only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST = 2000
"""Maximum number of files to note. A process that reads more has no list."""

_OF_THE_SYSTEM = ("/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_LOCAL = ("", "localhost", "::1", "0.0.0.0", "::")  # noqa: S104 - names to ignore; nothing is bound


class Inputs:
    """Notes files and hosts from Python's audit events. Files that libraries in C or Rust open are not seen."""

    def __init__(self, ignored: Iterable[str]) -> None:
        """Ignore all files below the directories `ignored`, the environment, Python and the system's directories."""
        found = (*ignored, *_OF_THE_SYSTEM, sys.prefix, sys.base_prefix, str(Path(os.__file__).parent))
        self._ignored = tuple({f"{place.rstrip('/')}/" for path in found for place in (path, os.path.realpath(path))})
        self._read: dict[str, None] = {}
        self._written: set[str] = set()
        self._changed = False
        """Whether a file was written that had been read: the next run would read something else."""
        self._hosts: dict[str, None] = {}

    def begin(self) -> None:
        """Start to note. An audit hook stays for the life of the process."""
        sys.addaudithook(self._hear)

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
        """Other machines that the process looked up or connected to."""
        return tuple(self._hosts)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        try:
            if event == "open":
                self._opened(*arguments)
            elif event == "socket.getaddrinfo":
                self._reached(arguments[0])
            elif event == "socket.connect" and isinstance(arguments[1], tuple):
                self._reached(arguments[1][0])
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
        elif len(self._read) <= MOST and whole not in self._written and self._matters(whole):
            self._read[whole] = None

    def _reached(self, host: Any) -> None:
        name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
        if name not in _LOCAL and not name.startswith("127."):
            self._hosts[name] = None

    def _matters(self, path: str) -> bool:
        return not path.startswith(self._ignored) and not path.endswith(".pyc")
