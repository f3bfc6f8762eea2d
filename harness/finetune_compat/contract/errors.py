"""One error tree. Every error a user can meet derives from `CompatError` and carries the exit code the command ends
with.

An error names what is wrong, where, what it usually means and what to do next; the command line prints exactly that and
no stack trace. Anything else that escapes is a bug of this project.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import IntEnum

from finetune_compat.contract.redaction import redact


class ExitCode(IntEnum):
    """Exit codes of every `compat` command and of every compat session."""

    HEALTHY = 0
    """Every verdict is a pass or a known, listed deviation."""
    UNHEALTHY = 1
    """At least one verdict failed: an unlisted bug, a listed bug that did not appear, or another failure than the
    listed one.
    """
    COULD_NOT_TELL = 3
    """The machine failed (a cell was killed, hung, or never ran): nothing is known about the versions."""
    BAD_INPUT = 4
    """A file, a name or an option the user gave is wrong."""
    ENVIRONMENT = 5
    """An environment could not be resolved, installed, or does not match its lock."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong inside one file: `path` is the place in it, such as `stacks[2].peft`."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def listed(faults: tuple[Fault, ...]) -> str:
    """All faults of a file, a line each under their number."""
    lines = "\n".join(f"  {fault}" for fault in faults)
    return f"{len(faults)} fault{'s' if len(faults) > 1 else ''}\n{lines}"


def why(error: Exception) -> str:
    """Why a file cannot be read or written, in the system's words."""
    return getattr(error, "strerror", None) or str(error)


class Interrupted(BaseException):
    """A signal asked the command to end. What it started has ended, and what it placed is removed.

    No `Exception`, which a gate answers with "could not tell", and no `KeyboardInterrupt`, which Typer ends with 130.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        """As shells have it."""


class CompatError(Exception):
    """Base of all errors shown to a user. They hold no secrets, whatever they quote.

    Args:
        what: what is wrong, one sentence.
        where: file, stack or option it was found in.
        meaning: what this usually means.
        todo: what to do next.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, what: str, *, where: str = "", meaning: str = "", todo: str = "") -> None:
        self.what, self.where, self.meaning, self.todo = map(redact, (what, where, meaning, todo))
        super().__init__(self.what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return "\n".join(part for part in (head, self.meaning, self.todo) if part)


class MatrixError(CompatError):
    """A matrix or ledger file cannot be read, or says something impossible. Lists every fault of the file."""

    def __init__(self, where: str, faults: tuple[Fault, ...], *, todo: str) -> None:
        super().__init__(listed(faults), where=where, todo=todo)
        self.faults = faults


class UnknownName(CompatError):
    """A stack, flow, issue or run that does not exist was asked for."""


class RecordsError(CompatError):
    """A results file cannot be read: wrong schema, cut off, or not written by this harness."""


class AdapterError(CompatError):
    """A saved adapter cannot be looked into: it is not there, not whole, not safetensors, or not PEFT's."""


class LockError(CompatError):
    """A lock is missing, stale against the matrix, or could not be resolved."""

    exit_code = ExitCode.ENVIRONMENT


class EnvironmentMismatch(CompatError):
    """What is installed is not what the lock says, in either direction."""

    exit_code = ExitCode.ENVIRONMENT


class InstallError(CompatError):
    """An environment could not be built: no interpreter, a package that fails to build, no registry in reach."""

    exit_code = ExitCode.ENVIRONMENT


class Unbuildable(InstallError):
    """A package of the lock has no wheel here and does not build: the stack, and not the machine, is at fault."""


class RegistryUnreachable(InstallError):
    """The package registry is out of reach: the machine failed, and nothing is known about the versions."""

    exit_code = ExitCode.COULD_NOT_TELL


class StackFailed(CompatError):
    """A process inside a stack's environment ended without an answer: nothing was learnt."""

    exit_code = ExitCode.COULD_NOT_TELL
