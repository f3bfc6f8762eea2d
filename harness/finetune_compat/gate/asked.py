"""What a side of a gate can be: a row of the matrix, versions that are none, or moves of packages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from finetune_compat.contract.redaction import redact
from finetune_compat.gate.decision import Rule
from finetune_compat.stacks.matrix import Stack


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix. `python` is None for the first Python that the row names."""

    stack: Stack
    python: str | None
    not_followed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Versions that are not a row: requirements to install, and constraints on the resolver."""

    rule: Rule
    name: str
    """Base of the stack's name."""
    requirements: tuple[Requirement, ...]
    """Requirements on packages of the matrix."""
    constraints: tuple[str, ...]
    not_followed: tuple[str, ...]
    python: str
    """The Python it runs on."""
    others: tuple[Requirement, ...] = ()
    """All other packages of the project."""
    built: tuple[Move, ...] = ()
    """Packages of the matrix that are built from a repository, a folder or a file."""
    wheels: tuple[Path, ...] = ()
    """Folders of wheels that were built for this side."""
    overrides: tuple[str, ...] = ()
    """Requirements in place of all others on their packages."""


@dataclass(frozen=True, slots=True)
class Move:
    """A package and the release that is asked for: the newest that `specifier` accepts, or what is at an address."""

    name: str
    specifier: str = ""
    extras: tuple[str, ...] = ()
    secret_address: str = field(default="", repr=False)
    """A URL or path to build the package from; may hold credentials. Empty for a release of the index."""

    def __str__(self) -> str:
        return f"{self.name} @ {redact(self.secret_address)}" if self.secret_address else f"{self.name}{self.specifier}"

    @property
    def exact(self) -> Version | None:
        """The one release; None if the index or a build must tell."""
        match = re.fullmatch(r"==\s*([^*,]+)", self.specifier)
        return Version(match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Moves of packages: in the other side, if that is a project, else among packages of the same day."""

    moves: tuple[Move, ...]
    """Empty for `latest`: all packages of the matrix are the newest that go together."""
    python: str | None
    in_project: bool
    not_followed: tuple[str, ...] = ()


Target = Row | Wanted | Upgrade
"""A side. A `Row` or a `Wanted` needs nothing else to be resolved."""
