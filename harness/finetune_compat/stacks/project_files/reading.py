"""Recognise a file, script, interpreter or folder, and read it. Every command that takes one starts here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files import (
    conda,
    environment,
    pdm_lock,
    pip_list,
    pipfile_lock,
    poetry_lock,
    pyproject,
    requirements_txt,
    script,
    uv_lock,
)
from finetune_compat.stacks.project_files.text import Text, read_json, read_text, read_toml
from finetune_compat.stacks.project_files.value import Kind, Place, Project, unread

LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pylock.toml", "Pipfile.lock", "conda-lock.yml")
"""Lock files of a project folder, in the order in which they are preferred."""
OPEN = ("requirements.lock", "requirements.txt", "pyproject.toml", "environment.yml", "environment.yaml")
"""Files of a project folder without a lock. requirements.txt precedes pyproject.toml: it is what people install."""

CAN_BE = (
    "Name a project folder, pyproject.toml, uv.lock, poetry.lock, pdm.lock, Pipfile.lock, pylock.toml, "
    "requirements.txt, environment.yml, conda-lock.yml, a script with inline metadata, the output of `pip freeze` or "
    "`pip list --format json`, or a virtual environment."
)
_NOT_READ = {
    "setup.py": "It is a program that computes the packages, and it is never run.",
    "setup.cfg": "setuptools reads it together with a program.",
    "Pipfile": "It is the input of pipenv, without exact versions.",
    "pixi.toml": "pixi resolves packages of conda and of pip together.",
    "pixi.lock": "pixi resolves packages of conda and of pip together.",
}
_ELSEWHERE = (
    "requirements*.txt",
    "requirements/*.txt",
    "*/requirements.txt",
    "*/pyproject.toml",
    "*/uv.lock",
)
"""Where projects keep their packages that have no file of a usual name."""
_MOST_NAMED = 5
_TOML = re.compile(r"^\s*\[\[?[\w.\"-]+\]\]?\s*(?:#.*)?$", re.MULTILINE)


def read_project(path: Path) -> Project:
    """What is at `path`: a file or script that names packages, an environment, its interpreter, or a project folder.

    Nothing is run, also if the file is executable, and nothing is downloaded.

    Raises:
        ProjectFileError: there is nothing, it cannot be read, or it is not what its name says.
    """
    try:
        return _read(path)
    except RecursionError:
        raise ProjectFileError(
            "it is nested too deeply",
            where=str(path),
            meaning="No file that names packages is nested so deeply: it is damaged.",
            todo=CAN_BE,
        ) from None


def _read(path: Path) -> Project:
    if not path.exists():
        looping = path.is_symlink()
        raise ProjectFileError(
            "it is a link to nothing" if looping else "there is no such file or folder",
            where=str(path),
            meaning=f"Nothing is at {path.absolute()}: the path is misspelt, or relative to another folder.",
            todo=CAN_BE,
        )
    if path.is_dir():
        return _folder(path)
    if environment.INTERPRETER.fullmatch(path.name):
        return _interpreter(path)
    return _file(path)


def _folder(path: Path) -> Project:
    if environment.is_environment(path):
        return environment.read(path, path)
    there = [name for name in (*LOCKS, *OPEN) if (path / name).is_file()]
    there += sorted(file.name for file in path.glob("pylock.*.toml"))
    if not there:
        raise _no_project(path)
    failed: ProjectFileError | None = None
    for place, name in enumerate(there):
        try:
            found = _file(path / name)
        except ProjectFileError as error:
            # A pyproject.toml may hold only the settings of tools. A damaged lock is not passed over.
            if name in LOCKS or error.what != "it names no packages":
                raise
            failed = failed or error
            continue
        beside = [item for item in there[place + 1 :] if item != "pyproject.toml"]
        notes = [unread(item, f"{name} is read in its place", Place(str(path / item))) for item in beside]
        return Project(found.kind, found.path, found.packages, (*found.unread, *notes), found.requires_python)
    raise failed or AssertionError(there)


def _no_project(path: Path) -> ProjectFileError:
    """The error for a folder without a file to read: it names files that may be meant, and why others are not read."""
    others = [str(file.relative_to(path)) for pattern in _ELSEWHERE for file in sorted(path.glob(pattern))]
    maybe = [name for name in dict.fromkeys(others) if name not in _NOT_READ][:_MOST_NAMED]
    closed = (f"Its {name} is not read. {why}" for name, why in _NOT_READ.items() if (path / name).is_file())
    lacks = f"It has none of {', '.join((*LOCKS, *OPEN))}, and no pyvenv.cfg."
    return ProjectFileError(
        "this folder is neither a project nor a virtual environment",
        where=str(path),
        meaning=next(closed, lacks),
        todo=f"Name the file that is meant, such as {', '.join(maybe)}." if maybe else CAN_BE,
    )


def _interpreter(path: Path) -> Project:
    # Not resolved: in a virtual environment, the link itself selects the environment.
    folder = path.absolute().parent.parent
    if environment.is_environment(folder):
        return environment.read(path, folder)
    raise ProjectFileError(
        "its packages cannot be found without running it",
        where=str(path),
        meaning="It is not in the `bin` of an environment: a link or a wrapper that starts another Python.",
        todo="Name the folder of the environment, or the output of `pip freeze`.",
    )


# --------------------------------------------------------------------------------------------------------------- files


def _file(path: Path) -> Project:
    name = path.name
    if name in _NOT_READ:
        raise ProjectFileError(
            "it is not read",
            where=str(path),
            meaning=_NOT_READ[name],
            todo="Name a lock file, a requirements.txt or the output of `pip freeze` of this project.",
        )
    text = read_text(path)
    suffix = path.suffix.lower()
    if suffix in (".py", ".pyw"):
        return script.read(text)
    if suffix in (".yml", ".yaml"):
        return conda.read(text)
    if name == "Pipfile.lock":
        return pipfile_lock.read(text, read_json(text, Kind.PIPFILE_LOCK))
    if suffix == ".json" or text.content.lstrip()[:1] in ("{", "["):
        found = _json_or_toml(text, suffix)
        if found is not None:
            return found
    if suffix == ".toml" or name in _BY_NAME or (suffix == ".lock" and _TOML.search(text.content)):
        return _toml(text)
    if text.content.startswith("#!"):
        raise ProjectFileError(
            "this is a program, and it is not run",
            where=str(path),
            meaning="A file is only read, also if it is executable.",
            todo=CAN_BE,
        )
    return requirements_txt.read(text)


def _json_or_toml(text: Text, suffix: str) -> Project | None:
    """A JSON file; None if it is TOML, which may also begin with a bracket."""
    if suffix != ".json" and _TOML.match(text.content):
        return None
    raw = read_json(text, Kind.PIP_LIST)
    if isinstance(raw, dict) and "_meta" in raw:
        return pipfile_lock.read(text, raw)
    return pip_list.read(text, raw)


_BY_NAME = {
    "uv.lock": Kind.UV_LOCK,
    "poetry.lock": Kind.POETRY_LOCK,
    "pdm.lock": Kind.PDM_LOCK,
    "pyproject.toml": Kind.PYPROJECT,
}
_READERS = {
    Kind.UV_LOCK: uv_lock.read,
    Kind.POETRY_LOCK: poetry_lock.read,
    Kind.PDM_LOCK: pdm_lock.read,
    Kind.PYPROJECT: pyproject.read,
}


def _toml(text: Text) -> Project:
    name = text.path.name
    kind = Kind.PYLOCK if re.fullmatch(r"pylock(\.[^.]+)?\.toml", name) else _BY_NAME.get(name)
    raw = read_toml(text, kind or Kind.PYPROJECT)
    kind = kind or _kind_of(raw)
    if kind is None:
        raise ProjectFileError(
            "this TOML file is none that names packages of Python",
            where=str(text.path),
            meaning="It has neither the tables of a pyproject.toml nor those of a lock file.",
            todo=CAN_BE,
        )
    if kind is Kind.PYLOCK:
        # Imported late: packaging.pylock takes as long to import as all other formats.
        from finetune_compat.stacks.project_files import pylock

        return pylock.read(text, raw)
    return _READERS[kind](text, raw)


def _kind_of(raw: Mapping[str, Any]) -> Kind | None:
    """The kind of a TOML file, by its content."""
    metadata = raw.get("metadata")
    stated = metadata if isinstance(metadata, dict) else {}
    if "lock-version" in raw:
        return Kind.PYLOCK
    if "lock-version" in stated or "content-hash" in stated:
        return Kind.POETRY_LOCK
    if "lock_version" in stated:
        return Kind.PDM_LOCK
    if raw.get("version") == 1 and "requires-python" in raw:
        return Kind.UV_LOCK
    return Kind.PYPROJECT if {"project", "dependency-groups", "tool"} & raw.keys() else None
