"""The error classes. Every error shown to a user derives from `CompatError` and carries the exit code of the command.

An error says what is wrong, where, what it usually means and what to do next. The command line prints exactly that, and
no stack trace. Any other exception that reaches the user is a bug of this project.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import IntEnum

from finetune_compat.contract.foreign_text import inert_log
from finetune_compat.contract.redaction import redact_here


class ExitCode(IntEnum):
    """Exit codes of every `compat` command and of every compat session."""

    HEALTHY = 0
    """Every verdict is a pass or a known, listed deviation."""
    UNHEALTHY = 1
    """At least one verdict failed: an unlisted bug, a listed bug that did not appear, or a failure that differs from
    the listed one.
    """
    COULD_NOT_TELL = 3
    """The machine failed (a cell was killed, hung, or never ran): nothing is known about the versions."""
    BAD_INPUT = 4
    """A file, name or option from the user is invalid."""
    ENVIRONMENT = 5
    """An environment could not be resolved or installed, or does not match its lock."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One problem in a file. `path` is the place in the file, for example `stacks[2].peft`."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def listed(faults: tuple[Fault, ...]) -> str:
    """The number of faults, then one line for each fault."""
    lines = "\n".join(f"  {fault}" for fault in faults)
    return f"{len(faults)} fault{'s' if len(faults) > 1 else ''}\n{lines}"


def why(error: Exception) -> str:
    """Why a file cannot be read or written: the message of the operating system, if there is one."""
    return getattr(error, "strerror", None) or str(error)


class Interrupted(BaseException):
    """A signal asked the command to end. Its child processes have ended, and its temporary files are removed.

    Not an `Exception`, because a gate turns those into "could not tell". Not a `KeyboardInterrupt`, because Typer exits
    with 130 for those.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.exit_code = 128 + number
        """128 + the signal number, as in shells."""


class CompatError(Exception):
    """Base of all errors shown to a user. Its texts have no secrets, and nothing that a terminal or a CI log runs.

    Args:
        what: what is wrong, one sentence.
        where: the file, stack or option that has the problem.
        meaning: what this usually means.
        todo: what to do next.
    """

    exit_code = ExitCode.BAD_INPUT

    def __init__(self, what: str, *, where: str = "", meaning: str = "", todo: str = "") -> None:
        texts = (inert_log(redact_here(text)) for text in (what, where, meaning, todo))
        self.what, self.where, self.meaning, self.todo = texts
        super().__init__(self.what)

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return "\n".join(part for part in (head, self.meaning, self.todo) if part)


class MatrixError(CompatError):
    """A matrix or ledger file cannot be read, or has invalid values. Lists every fault of the file."""

    def __init__(self, where: str, faults: tuple[Fault, ...], *, todo: str) -> None:
        super().__init__(listed(faults), where=where, todo=todo)
        self.faults = faults


class UnknownName(CompatError):
    """There is no stack, flow, issue or run with the requested name."""


class RecordsError(CompatError):
    """A results file cannot be read: wrong schema, truncated, or not written by this harness."""


class ProjectFileError(CompatError):
    """A file or environment that names packages cannot be read: not what its name says, too large, or not there."""


class AdapterError(CompatError):
    """A saved adapter cannot be inspected: missing, incomplete, not in safetensors format, or not written by PEFT."""


class LockError(CompatError):
    """A lock is missing, stale against the matrix, or could not be resolved."""

    exit_code = ExitCode.ENVIRONMENT


class EnvironmentMismatch(CompatError):
    """The installed packages differ from the lock: a package is missing, extra, or has another version."""

    exit_code = ExitCode.ENVIRONMENT


class InstallError(CompatError):
    """An environment could not be built: no interpreter, a package that fails to build, no registry reachable."""

    exit_code = ExitCode.ENVIRONMENT


class Unbuildable(InstallError):
    """A package of the lock has no wheel here and does not build. The stack is at fault, not the machine."""


class RegistryUnreachable(InstallError):
    """The package registry is not reachable. The machine failed, and nothing is known about the versions."""

    exit_code = ExitCode.COULD_NOT_TELL


class StackFailed(CompatError):
    """A process inside a stack's environment ended without a result."""

    exit_code = ExitCode.COULD_NOT_TELL
