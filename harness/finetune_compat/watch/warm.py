"""Fork scripts from a process that has imported a stack's libraries, where many scripts run on one stack. Host side.

An import costs 4 s and 450 MB, and a fork 20 to 56 ms and 80 MB.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from finetune_compat.contract.errors import StackFailed
from finetune_compat.contract.script import REQUEST, WatchRequest
from finetune_compat.watch.put_back import put_back

_IMPORT_S = 300.0
"""Seconds in which the libraries must be imported."""

_MODULE = "finetune_compat.cell.script.warm"


def may_fork(given: Sequence[str]) -> bool:
    """Whether a script may be forked: it is no launcher, and does not change its environment before an import."""
    script = Path(given[0])
    if script.suffix not in (".py", ".ipynb"):
        return False
    text = script.read_text(encoding="utf-8", errors="replace")
    return not any(mark in text for mark in ("environ", "putenv", "%env", "%set_env"))


class Forked:
    """A forked script. It has those methods of `Popen` that a watch uses."""

    def __init__(self, pid: int, answers: IO[bytes]) -> None:
        self.pid = pid
        self._answers = answers
        self._status: int | None = None

    def poll(self) -> int | None:
        """The exit status; None if it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float) -> int:
        """The exit status; the negative signal number if a signal ended it.

        Raises:
            subprocess.TimeoutExpired: it runs for longer than `timeout` seconds.
        """
        if self._status is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("fork", timeout)
            self._status = os.waitstatus_to_exitcode(int(self._answers.readline() or 1 << 8))
        return self._status


class Warm:
    """A process with the libraries of `python`. One script at a time is forked from it. Close it after use."""

    def __init__(self, python: Path, environ: Mapping[str, str], stack: str) -> None:
        """
        Raises:
            StackFailed: the libraries cannot be imported.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="compat-warm-")
        request = Path(self._folder.name, "request")
        asked = WatchRequest(self._folder.name, "", stack, 0, "", "")
        request.write_text(json.dumps(dataclasses.asdict(asked)))
        self.output = Path(self._folder.name, "output")
        with self.output.open("w") as output:
            self._process = subprocess.Popen(
                [str(python), "-P", "-m", _MODULE],
                env={**environ, REQUEST: str(request)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,  # with a buffer, `select` would not see what has been read already
            )
        if not self._is_ready():
            said = self.output.read_text(errors="replace")[-300:] if self._ends() else f"not in {_IMPORT_S:g} s"
            self.close()
            raise StackFailed(
                f"its libraries cannot be imported: {said}",
                where=stack,
                meaning="A library of this stack fails when it is imported, or the machine is busy or out of memory.",
                todo="Watch one script on this stack: its record says where it fails. On a busy machine, try later.",
            )

    def _is_ready(self) -> bool:
        answers, until = self._pipes()[1], time.monotonic() + _IMPORT_S
        while select.select([answers], [], [], max(0.0, until - time.monotonic()))[0]:
            line = answers.readline()
            if line in (b"ready\n", b""):
                return bool(line)
        return False

    def _ends(self) -> bool:
        """Whether the process has closed its output because it ends, and is not busy."""
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        asks, answers = self._process.stdin, self._process.stdout
        if asks is None or answers is None:
            raise AssertionError("both are pipes")
        return asks, answers

    def start(self, command: Sequence[str], environ: Mapping[str, str], directory: Path) -> Forked:
        """Fork the script of `command`, as `command_of` returns it, in `directory`."""
        self.output.write_text("")
        after = 3 if command[1] == "-m" else 1
        request = {
            "arguments": list(command[after:]),
            "environ": dict(environ),
            "directory": str(directory),
            "output": str(self.output),
        }
        asks, answers = self._pipes()
        asks.write(json.dumps(request).encode() + b"\n")
        pid = answers.readline()
        if not pid:
            raise StackFailed(
                f"it could not be forked: {self.output.read_text(errors='replace')[-300:]}",
                where=str(command[after]),
                meaning="The process with the libraries has ended.",
                todo="Run this script in a process of its own.",
            )
        return Forked(int(pid), answers)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        put_back(Path(self._folder.name))  # what the libraries changed when they were imported
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
