"""Sides that are files, folders, wheels or environments: what the gate installs of them, and what it leaves out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.redaction import redact
from finetune_compat.gate.asked import Move, Upgrade, Wanted
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.left_out import left_out
from finetune_compat.gate.platform_layer import is_of_platform, platform_note
from finetune_compat.gate.side_python import python_for
from finetune_compat.stacks.matrix import Matrix
from finetune_compat.stacks.project_files.entries import of_address
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.text import read_text, read_toml
from finetune_compat.stacks.project_files.value import OF_CONDA, Kind, Origin, Package, Project

_LONGEST_STEM = 60
"""Maximum number of characters of a file's name in the name of its stack."""
_MOST_SHOWN = 8
"""Maximum number of names in one note."""
_PUBLIC = re.compile(r"pypi\.org|pythonhosted\.org")
_BUILT_BY_CONDA = re.compile(r"/(?:feedstock_root|croot|conda-bld)/")
"""Folders in which conda builds packages. `pip freeze` in a conda environment names them."""


def read_path(path: Path, option: str, matrix: Matrix, asked: str | None) -> Wanted | Upgrade:
    """The side at a path: a wheel or source folder of a package of the matrix, a project, or an environment.

    Args:
        path: of the value.
        option: `--from` or `--to`, for messages.
        matrix: the packages it resolves.
        asked: the value of `--python`.

    Raises:
        CompatError: nothing usable is there, it names no package of the matrix, or no Python of the matrix fits.
    """
    if path.suffix == ".whl" or path.is_dir():
        name = _source_of(path, matrix)
        if name:
            return Upgrade((Move(name, secret_address=str(path.absolute())),), python_for(asked, matrix), False)
    if path.suffix == ".whl":
        raise CompatError(
            "this is no wheel of a package that the matrix resolves" if path.exists() else "there is no such file",
            where=f"{option} {path}",
            meaning="The gate compares the training stack; the name of a wheel begins with its package.",
            todo=f"Name a wheel of {', '.join(matrix.packages)}.",
        )
    project = read_project(path)
    python = python_for(asked, matrix, takes=project.requires_python, where=str(path))
    return _wanted(project, path, matrix, python)


def _source_of(path: Path, matrix: Matrix) -> str:
    """The package of the matrix whose wheel or source folder this is; empty for anything else."""
    if path.suffix == ".whl":
        name, _ = of_address(path.name)
        return name if name in matrix.packages and path.is_file() else ""
    file = path / "pyproject.toml"
    if not file.is_file():
        return ""
    project = read_toml(read_text(file), Kind.PYPROJECT).get("project")
    stated = canonicalize_name(str(project.get("name", ""))) if isinstance(project, dict) else ""
    if not stated and (path / "setup.py").is_file() and path.resolve().name in matrix.packages:
        stated = path.resolve().name
    return stated if stated in matrix.packages else ""


def _wanted(project: Project, path: Path, matrix: Matrix, python: str) -> Wanted:
    """The side of a project: all its packages, and by name what is left out."""
    sorted_ = _Sorted(project, matrix)
    for item in sorted_.chosen(project.on(python)):
        sorted_.take(item)
    known = {canonicalize_name(item.name) for item in sorted_.direct} | {move.name for move in sorted_.built}
    if not known:
        raise CompatError(
            "it names no package that the matrix resolves" if project.packages else "it names no packages",
            where=str(path),
            meaning=" ".join(("The gate compares the training stack.", *(f"{note}." for note in _summed(project)))),
            todo=f"Give one that holds one or more of {', '.join(matrix.packages)}.",
        )
    missing = [name for name in matrix.packages if name not in known]
    notes = [*_summed(project), *sorted_.notes]
    of_conda = [item for item in project.unread if item.reason == OF_CONDA and _name_in_conda(item.what) in missing]
    if of_conda:
        names = ", ".join(item.what for item in of_conda)
        notes.append(f"{names}: other versions are measured than those that conda installs")
    if missing:
        notes.append(f"{', '.join(missing)}: not given, but needed by the flows; the resolver chose them")
    folder = path if path.is_dir() or project.kind is not Kind.ENVIRONMENT else project.path
    stem = re.sub(r"[^A-Za-z0-9]+", "-", folder.resolve().stem).strip("-").lower()[:_LONGEST_STEM] or "env"
    rule = Rule.LIVE if project.kind in (Kind.ENVIRONMENT, Kind.PIP_LIST) else Rule.FILE
    return Wanted(
        rule,
        stem,
        tuple(sorted_.direct),
        tuple(sorted(sorted_.constraints)),
        tuple(map(redact, notes)),
        python,
        tuple(sorted_.others),
        tuple(sorted_.built),
        overrides=tuple(sorted(sorted_.overrides)),
    )


def _name_in_conda(spec: str) -> str:
    """The package in a spec of conda, such as `conda-forge::trl=0.22.2`."""
    return canonicalize_name(re.split(r"[=<>!~\s\[]", spec.rpartition("::")[2], maxsplit=1)[0])


class _Sorted:
    """The packages of a project, sorted by what the gate does with them."""

    def __init__(self, project: Project, matrix: Matrix) -> None:
        self.matrix = matrix
        self.direct: list[Requirement] = []
        self.others: list[Requirement] = []
        self.built: list[Move] = []
        self.constraints: list[str] = []
        self.overrides: list[str] = []
        self.notes: list[str] = []
        # Packages that the matrix exempts on every device are those that its torch requires.
        self.needed = {exempt.package for exempt in matrix.exemptions if exempt.device is None}
        # A mirror serves the training stack too; an index that does not is the project's own.
        self.indexes = {item.source.address for item in project.packages if item.name in matrix.packages}

    def chosen(self, packages: Sequence[Package]) -> list[Package]:
        """The packages that are always installed, and those of extras and groups that bring the training stack."""
        taken = {group for item in packages if item.name in self.matrix.packages for group in item.groups}
        used = [item for item in packages if not item.groups or taken & set(item.groups)]
        for group in sorted({group for item in packages for group in item.groups} - taken):
            names = [item.name for item in packages if group in item.groups and item not in used]
            if names:
                self.notes.append(f"{group} ({_some(names)}): not installed, because it brings no training package")
        return self._once(used)

    def _once(self, packages: Sequence[Package]) -> list[Package]:
        """Without second pins of a package, which locks have for conflicting extras. One that is always there wins."""
        pinned: dict[str, Package] = {}
        for item in sorted(packages, key=lambda item: bool(item.groups)):
            if item.version is None or item.override:
                continue
            if pinned.setdefault(item.name, item).version != item.version:
                self.notes.append(f"{item}: {pinned[item.name]} is installed in its place")
        return [
            item
            for item in packages
            if item.version is None or item.override or pinned[item.name].version == item.version
        ]

    def take(self, item: Package) -> None:
        """Sort one package."""
        origin, address = item.source.origin, item.source.address
        if is_of_platform(item.name):
            self.notes.append(platform_note(str(item)))
        elif item.name in self.needed:
            self.notes.append(f"{item}: torch {self.matrix.torch} needs its own")
        elif item.constraint:
            self._constrain(item)
        elif origin is not Origin.INDEX:
            self._from_elsewhere(item)
        elif item.name in self.matrix.packages:
            self.direct.append(self._public(item))
        elif item.name in self.matrix.tools:
            return
        elif address and not _PUBLIC.search(address) and address not in self.indexes:
            self.notes.append(left_out(str(item), f"it is from the index {address}"))
        elif item.version is not None and Version(item.version).local:
            self.notes.append(left_out(str(item), "the index has no such build"))
        else:
            self.others.append(item.requirement)

    def _from_elsewhere(self, item: Package) -> None:
        """A package from a URL, a path or a repository: those of the matrix are built."""
        of_conda = item.source.origin is Origin.PATH and _BUILT_BY_CONDA.search(item.source.address)
        if item.name not in self.matrix.packages:
            reason = f"it is from a {_ORIGINS[item.source.origin]}, not from an index"
            self.notes.append(left_out(str(item), "conda built it" if of_conda else reason))
        elif of_conda:
            raise CompatError(
                f"it does not state the version of {item.name}",
                where=str(item.place),
                meaning="conda installed it, and `pip freeze` writes the folder in which conda built it.",
                todo="Write the list with `pip list --format json`, which has the versions.",
            )
        else:
            self._build(item)

    def _constrain(self, item: Package) -> None:
        if item.override and item.source.origin is not Origin.INDEX:
            self.notes.append(f"{item}: an override that is not from an index; the resolver chose another version")
        elif item.specifier and item.source.origin is Origin.INDEX and item.name not in self.matrix.tools:
            (self.overrides if item.override else self.constraints).append(f"{item.name}{item.specifier}")

    def _public(self, item: Package) -> Requirement:
        """A package of the matrix. A local version, which no index has, is replaced by its public one."""
        version = None if item.version is None else Version(item.version)
        if version is None or not version.local:
            return item.requirement
        self.notes.append(f"{item}: the gate uses {version.public} of the index; changes in this build are not seen")
        extras = f"[{','.join(item.extras)}]" if item.extras else ""
        return Requirement(f"{item.name}{extras}=={version.public}")

    def _build(self, item: Package) -> None:
        address = item.source.secret_address
        if item.source.origin is Origin.PATH:
            address = address.removeprefix("file://").partition("#")[0]
            folder = Path(item.place.file).parent if item.place.line or Path(item.place.file).is_file() else Path()
            address = str((folder / address).resolve())
        self.built.append(Move(item.name, item.specifier, item.extras, address))


_ORIGINS = {Origin.URL: "URL", Origin.PATH: "folder or file", Origin.GIT: "repository"}


def _summed(project: Project) -> list[str]:
    """What the reader did not read, with one note for each reason."""
    by_reason: dict[str, list[str]] = {}
    for item in project.unread:
        by_reason.setdefault(item.reason, []).append(item.what)
    return [f"{_some(names)}: {reason}" for reason, names in by_reason.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more
