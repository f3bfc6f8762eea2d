"""What a project asks for: the packages of the ledger that it names, each with its range and its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from packaging.specifiers import SpecifierSet


@dataclass(frozen=True, slots=True)
class Asked:
    """One package of a project."""

    name: str
    """Canonical."""
    specifier: SpecifierSet
    file: str
    """As a message shows it; relative to the directory that was asked about, if it is inside."""
    line: int = 1

    @property
    def version(self) -> str | None:
        """The one version that is allowed; None for a range."""
        parts = list(self.specifier)
        exact = len(parts) == 1 and parts[0].operator in ("==", "===") and not parts[0].version.endswith(".*")
        return parts[0].version if exact else None

    @property
    def text(self) -> str:
        """`trl 0.22.2`, `trl >=0.20`, or `trl, any version`."""
        return f"{self.name} {self.version or self.specifier}" if self.specifier else f"{self.name}, any version"

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Project:
    """What was read of a project."""

    path: Path
    """The file, directory or environment that was read."""
    packages: Mapping[str, Asked]
    """By canonical name."""
    complete: bool
    """Whether a package that is not named is not installed, as for a lock file or an environment."""
    unread: tuple[str, ...] = field(default=())
    """What could not be followed, each with the reason."""
