"""Files that name packages, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode, ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.text import Text
from finetune_compat.stacks.project_files.value import Place, Project

CASES = Path(__file__).parent / "stacks" / "project_files" / "cases"
AT = Place("file", 3)


def read(case: str) -> Project:
    """The project of a case."""
    return read_project(CASES / case)


def shown(found: Project) -> list[str]:
    """Each package, with `on LINE`, `if MARKER`, `in GROUP` and `only a limit` where it applies."""
    return [
        str(item)
        + (f" on {item.place.line}" if item.place.line else "")
        + (f" if {item.marker}" if item.marker else "")
        + (f" in {', '.join(item.groups)}" if item.groups else "")
        + (" only a limit" if item.constraint else "")
        for item in found.packages
    ]


def text(content: str) -> Text:
    """The text of a file called `file`."""
    return Text(Path("file"), content)


def refused(call: Callable[[], object]) -> str:
    """Where a file is refused, and why: bad input with a meaning and an advice."""
    with pytest.raises(ProjectFileError) as raised:
        call()
    error = raised.value
    assert error.exit_code is ExitCode.BAD_INPUT
    assert error.meaning and error.todo
    return f"{error.where}: {error.what}"


def uv_lock(*packages: str) -> str:
    """A uv.lock of packages `NAME VERSION [SOURCE]`, by default from PyPI; more lines are the entry's."""
    entries = ['version = 1\nrequires-python = ">=3.11"\n']
    for package in packages:
        first, *more = package.split("\n")
        name, version, *source = first.split(" ", 2)
        of = source[0] if source else 'registry = "https://pypi.org/simple"'
        lines = (f'name = "{name}"', f'version = "{version}"', f"source = {{ {of} }}", *more)
        entries.append("\n".join(("[[package]]", *lines, "")))
    return "\n".join(entries)
