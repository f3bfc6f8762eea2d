"""The versions that code is joined with: those of its project, or those of a release it is to move to."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from finetune_compat.affected.hits import PACKAGES
from finetune_compat.affected.reading import read_project
from finetune_compat.audit.findings import Releases
from finetune_compat.audit.signatures import Signatures
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import CompatError, ProjectFileError
from finetune_compat.stacks.project_files.reading import LOCKS, OPEN

_PIN = re.compile(r"([\w.-]+)==([^\s;\\]+)")
_ABOVE = 4
"""Directories above the code in which its project file is looked for."""


def of_project(path: Path, lock: Path | None, ledger: Ledger) -> tuple[Releases, str]:
    """The exact versions of the project around `path`, and where they come from; empty if there are none.

    Args:
        path: the code.
        lock: the file or environment with the versions; None: the nearest project file at or above `path`.
        ledger: the known issues.

    Raises:
        CompatError: the named or the nearest file cannot be read.
    """
    found = lock or _nearest(path)
    if found is None:
        return Releases({}, ledger=ledger), ""
    try:
        project = read_project(found)
    except ProjectFileError:
        if lock is not None:
            raise
        return Releases({}, ledger=ledger), ""
    versions = {name: asked.version for name, asked in project.packages.items() if asked.version}
    return Releases(versions, project.complete, frozenset(project.packages), ledger), str(project.path)


def _nearest(path: Path) -> Path | None:
    start = (path if path.is_dir() else path.parent).absolute()
    for folder in (start, *start.parents[: _ABOVE - 1]):
        if any((folder / name).is_file() for name in (*LOCKS, *OPEN)):
            return folder
        if (folder / ".git").exists():
            return None
    return None


def moved_to(wanted: str, today: Releases, signatures: Signatures, locks: Path) -> Releases:
    """The versions after an upgrade: those that the matrix locked together with the wanted release.

    Args:
        wanted: such as `trl==1.16`.
        today: the versions before.
        signatures: the known releases.
        locks: the directory of the matrix's locks.

    Raises:
        CompatError: it is not a requirement of a known package, or no known release matches it.
    """
    try:
        asked = Requirement(wanted)
    except InvalidRequirement:
        raise _invalid(wanted, "is not a requirement") from None
    known = signatures.releases.get(asked.name)
    if known is None:
        raise _invalid(wanted, f"names none of {', '.join(signatures.releases)}")
    fitting = [version for version in known if asked.specifier.contains(version, prereleases=True)]
    if not fitting:
        raise _invalid(wanted, f"matches no known release ({known[0]} to {known[-1]})")
    version = max(fitting, key=Version)
    together = _locked_with(asked.name, version, locks)
    versions = {**today.versions, **together, asked.name: version}
    return Releases(versions, today.complete, today.installed | {"triton"}, today.ledger)


def _locked_with(name: str, version: str, locks: Path) -> dict[str, str]:
    """The packages of the ledger in a lock with this release: one that varies the package, if there is one."""
    files = sorted(locks.glob("*-py3*.txt"), key=lambda file: (not file.name.startswith(name), file.name))
    for file in files:
        found = map(_PIN.match, file.read_text(encoding="utf-8").splitlines())
        pins = {pin[1]: pin[2] for pin in found if pin}
        if pins.get(name) == version and "-cuda" not in file.name:
            return {package: pins[package] for package in PACKAGES if package in pins}
    return {}


def _invalid(wanted: str, problem: str) -> CompatError:
    return CompatError(
        f"{wanted!r} {problem}",
        where="--for",
        meaning="What a release accepts is known for the releases of the matrix.",
        todo="Name a release, such as --for trl==1.16.",
    )
