"""The packages of the ledger that a project asks for, of all that its files name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.markers import UndefinedComparison
from packaging.specifiers import SpecifierSet

from finetune_compat.affected.hits import PACKAGES
from finetune_compat.affected.packages import Asked, Project
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files import reading
from finetune_compat.stacks.project_files.value import Kind, Package

PYTHON = "3.11"
"""The Python for which markers are evaluated: that of the matrix."""

_COMPLETE = frozenset(
    {
        Kind.UV_LOCK,
        Kind.POETRY_LOCK,
        Kind.PDM_LOCK,
        Kind.PIPFILE_LOCK,
        Kind.PYLOCK,
        Kind.CONDA_LOCK,
        Kind.PIP_LIST,
        Kind.ENVIRONMENT,
    }
)
"""Kinds that name every package of an environment."""


def read_project(path: Path | None) -> Project:
    """What the file, directory or environment at `path` asks for; None: what the active environment has.

    Raises:
        ProjectFileError: there is nothing to read, or it is not valid.
    """
    if path is None:
        path = Path(os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX") or sys.prefix)
    found = reading.read_project(path)
    try:
        named = [one for one in found.on(PYTHON) if one.name in (*PACKAGES, *BESIDE)]
    except UndefinedComparison as error:
        raise ProjectFileError(
            f"a marker has an invalid comparison: {error}",
            where=str(path),
            meaning="The file was edited by hand, or written by another version of its tool.",
            todo="Write the file again with its tool.",
        ) from None
    root = path if path.is_dir() else path.parent
    packages = {name: _asked(name, [one for one in named if one.name == name], root) for name in {*map(_name, named)}}
    unread = (*map(str, found.unread), *_several(named))
    return Project(found.path, packages, found.kind in _COMPLETE and _whole(packages), unread)


BESIDE = ("triton", "flash-attn", "accelerate", "datasets", "torch")
"""Further packages that conditions of issues name."""


def _name(package: Package) -> str:
    return package.name


def _asked(name: str, entries: Sequence[Package], root: Path) -> Asked:
    """The first entry that installs it, and all limits that hold at the same time."""
    first = min(entries, key=lambda one: one.constraint)
    specifier = SpecifierSet(first.specifier)
    for other in entries:
        if other.version is None:
            specifier &= SpecifierSet(other.specifier)
    if first.version is not None:
        specifier = SpecifierSet(f"=={first.version}")
    file = Path(first.place.file)
    shown = file.relative_to(root) if file.is_relative_to(root) else file
    return Asked(name, specifier, str(shown), max(first.place.line, 1))


def _several(named: Sequence[Package]) -> Iterator[str]:
    """Packages that have several exact versions, for extras or platforms that exclude each other."""
    for name in PACKAGES:
        versions = dict.fromkeys(one.version for one in named if one.name == name and one.version)
        if len(versions) > 1:
            first, *others = versions
            yield f"{name} {', '.join(map(str, others))}: {name} {first} is told, the file has several versions of it"


def _whole(packages: Mapping[str, Asked]) -> bool:
    """Whether a list that should name every package does: TRL and PEFT cannot be installed without Transformers."""
    return "transformers" in packages or not {"trl", "peft"} & packages.keys()
