"""The JSON that `pip list --format json` and `uv pip list --format json` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_compat.stacks.project_files.entries import of_pin
from finetune_compat.stacks.project_files.text import Text, broken, quoted
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, Kind, Origin, Project, Source

_KIND = Kind.PIP_LIST


def read(text: Text, raw: Any) -> Project:
    """The installed packages.

    Raises:
        ProjectFileError: it is not such a list.
    """
    if not isinstance(raw, list):
        raise broken(_KIND, text.place(), f"it is {quoted(raw)} and not a list of packages")
    packages, line = [], 0
    for number, item in enumerate(raw, 1):
        if not isinstance(item, Mapping):
            raise broken(_KIND, text.place(line or 1), f"its entry {number} is {quoted(item)} and not a package")
        name = item.get("name")
        line = text.find(f'"{name}"', after=line) or line
        editable = item.get("editable_project_location")
        source = Source(Origin.PATH, editable) if isinstance(editable, str) else DEFAULT_INDEX
        packages.append(of_pin(name, item.get("version"), text.place(line or 1), _KIND, source=source))
    return Project(_KIND, text.path, tuple(packages))
