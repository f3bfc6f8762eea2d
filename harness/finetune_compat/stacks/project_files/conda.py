"""Environment files of conda, and conda-lock: the packages of pip. Those of conda are named, and not read."""

from __future__ import annotations

import re

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.entries import of_pin, source_of_url
from finetune_compat.stacks.project_files.requirements_txt import Found
from finetune_compat.stacks.project_files.text import Node, Text, broken, quoted, read_yaml
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, OF_CONDA, Kind, Origin, Project, unread

_PLATFORM = "linux-64"


def read(text: Text) -> Project:
    """The packages of pip in an environment file or a conda-lock file.

    Raises:
        ProjectFileError: it is neither.
    """
    root = read_yaml(text, Kind.CONDA_ENVIRONMENT)
    if "package" in root.table and root.table["package"].items:
        return _lock(text, root)
    if "dependencies" not in root.table:
        raise ProjectFileError(
            "it names no packages",
            where=str(text.path),
            meaning="It is YAML, and neither a conda environment (`dependencies:`) nor a conda-lock file (`package:`).",
            todo="Name the project's environment.yml, lock file or requirements.txt.",
        )
    return _environment(text, root)


def _environment(text: Text, root: Node) -> Project:
    found = Found(Kind.CONDA_ENVIRONMENT)
    listed = root.table["dependencies"]
    if not listed.items and listed.text:
        raise broken(Kind.CONDA_ENVIRONMENT, text.place(listed.line), "`dependencies` is not a list")
    python = ""
    for item in listed.items:
        place = text.place(item.line)
        if "pip" in item.table:
            for line in item.table["pip"].items:
                found.line(line.text.strip(), text.place(line.line), text.path.parent)
        elif item.text:
            python = _python(item.text) or python
            found.unread.append(unread(item.text, OF_CONDA, place))
        else:
            raise broken(Kind.CONDA_ENVIRONMENT, place, "an entry of `dependencies` is neither text nor `pip:`")
    return Project(Kind.CONDA_ENVIRONMENT, text.path, tuple(found.packages), tuple(found.unread), python)


def _python(spec: str) -> str:
    """The specifier for Python in a spec of conda such as `python=3.11`, `python 3.11.*` or `python>=3.11,<3.13`."""
    match = re.fullmatch(r"(?:[\w-]+::)?python(?![\w-])\s*(.*)", spec)
    if match is None:
        return ""
    if minor := re.match(r"={0,2}\s*(3\.\d+)(?:[.=*\s]|$)", match[1]):
        return f"=={minor[1]}.*"
    try:
        return str(SpecifierSet(match[1].partition(" ")[0]))
    except InvalidSpecifier:
        return ""


def _lock(text: Text, root: Node) -> Project:
    kind = Kind.CONDA_LOCK
    packages, notes, python = [], [], ""
    for item in root.table["package"].items:
        place = text.place(item.line)
        name, version = item.get("name"), item.get("version")
        if item.get("platform") not in (_PLATFORM, "noarch"):
            continue
        match item.get("manager"):
            case "conda":
                python = f"=={'.'.join(version.split('.')[:2])}.*" if name == "python" else python
                notes.append(unread(f"{name} {version}", OF_CONDA, place))
            case "pip":
                url = item.get("url")
                source = source_of_url(url) if url.startswith("git+") else DEFAULT_INDEX
                category = item.get("category") or "main"
                groups = () if category == "main" else (f"group {category}",)
                if source.origin is Origin.GIT:
                    version = version.partition(" ")[0]
                packages.append(of_pin(name, version, place, kind, groups=groups, source=source))
            case other:
                raise broken(kind, place, f"the manager of {quoted(name)} is {quoted(other)}, not conda or pip")
    return Project(kind, text.path, tuple(packages), tuple(notes), python)
