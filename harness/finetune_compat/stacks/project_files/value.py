"""What is read from a project: its packages, and by name what was not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

from finetune_compat.contract.redaction import redact

OF_CONDA = "a package of conda, and only those of pip are read"
"""The reason why a package of conda is not read: conda's builds and names are not those of the package index."""
NEWEST_PATCH = 99
"""A patch number above those of all Python releases."""


class Kind(StrEnum):
    """The kind of a file or folder, as messages name it."""

    PYPROJECT = "pyproject.toml"
    UV_LOCK = "uv.lock"
    POETRY_LOCK = "poetry.lock"
    PDM_LOCK = "pdm.lock"
    PIPFILE_LOCK = "Pipfile.lock"
    PYLOCK = "pylock.toml"
    REQUIREMENTS = "requirements file"
    CONDA_ENVIRONMENT = "conda environment file"
    CONDA_LOCK = "conda-lock file"
    SCRIPT = "script with inline metadata"
    PIP_LIST = "output of pip list --format json"
    ENVIRONMENT = "environment"


class Origin(StrEnum):
    """Where a package comes from."""

    INDEX = "index"
    URL = "url"
    PATH = "path"
    GIT = "git"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a package comes from, with the address that the project states."""

    origin: Origin = Origin.INDEX
    secret_address: str = field(default="", repr=False)
    """May hold credentials: never print or record it. Empty for an index that the project does not name."""

    @property
    def address(self) -> str:
        """The address without credentials."""
        return redact(self.secret_address)


DEFAULT_INDEX = Source()


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; line 0 is the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Package:
    """A package that a project names."""

    name: str
    """Canonical."""
    specifier: str
    """PEP 440; empty if every version is accepted."""
    place: Place
    version: str | None = None
    """The exact version; None if the specifier accepts several."""
    marker: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    """The extras and dependency groups that bring it, such as `extra train`; empty if it is always installed."""
    source: Source = DEFAULT_INDEX
    constraint: bool = False
    """Whether it is not installed, and only its version is limited if another package needs it."""
    override: bool = False
    """Whether a constraint replaces what the project and its packages require of it, as an override of uv or PDM."""

    @property
    def requirement(self) -> Requirement:
        """As a requirement without marker and source."""
        extras = f"[{','.join(self.extras)}]" if self.extras else ""
        return Requirement(f"{self.name}{extras}{self.specifier}")

    def __str__(self) -> str:
        return str(self.requirement) if self.source.origin is Origin.INDEX else f"{self.name} @ {self.source.address}"


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that the project states and that was not read."""

    what: str
    reason: str
    place: Place

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Project:
    """Everything that was read."""

    kind: Kind
    path: Path
    """The file, or the folder of an environment."""
    packages: tuple[Package, ...]
    unread: tuple[Unread, ...] = ()
    requires_python: str = ""
    """A version specifier, such as `>=3.10`."""

    def on(self, python: str) -> tuple[Package, ...]:
        """The packages whose markers hold on this Python version, on Linux x86-64."""
        return tuple(item for item in self.packages if not item.marker or holds(Marker(item.marker), python))


def unread(what: str, reason: str, place: Place) -> Unread:
    """An `Unread` without secrets."""
    return Unread(redact(what), redact(reason), place)


def holds(marker: Marker, python: str, groups: Iterable[str] = (), extras: Sequence[str] = ()) -> bool:
    """Whether `marker` holds on Linux x86-64, the platform of all locks, on the newest patch of `python`.

    `groups` and `extras` are those that are selected.

    Raises:
        UndefinedComparison: it compares what has no order.
    """
    whole = f"{python}.{NEWEST_PATCH}"
    here: dict[str, str | frozenset[str]] = {name: str(value) for name, value in default_environment().items()}
    here |= {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux", "os_name": "posix"}
    here |= {"python_version": python, "python_full_version": whole, "implementation_version": whole}
    here |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    here |= {"extra": next(iter(extras), ""), "extras": frozenset(extras), "dependency_groups": frozenset(groups)}
    return marker.evaluate(here, context="lock_file")
