"""What a path asks for, through the one reader of project files."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from finetune_compat.affected.hits import PACKAGES
from finetune_compat.affected.packages import Asked, Project
from finetune_compat.contract.errors import CompatError
from finetune_compat.stacks.requirement_files import Malformed, open_file

LOCKS = ("uv.lock", "pylock.toml")
"""Files that name every package of an environment."""

_PREFERRED = (*LOCKS, "requirements.txt")


def read_project(path: Path | None) -> Project:
    """What the file, directory or environment at `path` asks for; None: what the active environment has.

    Raises:
        CompatError: there is nothing to read, or it is not valid.
    """
    if path is None:
        return _environment(Path(os.environ.get("VIRTUAL_ENV") or sys.prefix))
    if (path / "pyvenv.cfg").is_file():
        return _environment(path)
    file = _chosen(path)
    try:
        versions = open_file(file).versions("3.11")
    except Malformed as error:
        raise _unreadable(str(error), file) from None
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    packages = {
        name: Asked(name, one.specifier, file.name, _line(lines, one.name))
        for one in versions.requirements
        if (name := canonicalize_name(one.name)) in PACKAGES
    }
    return Project(file, packages, file.name in LOCKS, versions.not_followed)


def _chosen(path: Path) -> Path:
    if path.is_file():
        return path
    for name in _PREFERRED:
        if (path / name).is_file():
            return path / name
    raise _unreadable(f"has none of {', '.join(_PREFERRED)}" if path.is_dir() else "does not exist", path)


def _line(lines: list[str], name: str) -> int:
    pattern = re.compile(rf'\s*(name = ")?{re.escape(name)}(?![\w.-])', re.IGNORECASE)
    return next((number for number, line in enumerate(lines, 1) if pattern.match(line)), 1)


def _environment(directory: Path) -> Project:
    found = {name: Asked(name, SpecifierSet(f"=={version}"), str(directory)) for name, version in _installed(directory)}
    return Project(directory, found, complete=True)


def _installed(directory: Path) -> Iterator[tuple[str, str]]:
    places = [str(place) for place in directory.glob("lib/python3*/site-packages")]
    for name in PACKAGES:
        for one in metadata.distributions(name=name, path=places):
            yield name, one.version


def _unreadable(problem: str, where: Path) -> CompatError:
    return CompatError(
        problem,
        where=str(where),
        meaning="Versions come from a lock file, a requirements file or an environment.",
        todo="Name one of them: compat affected uv.lock",
    )
