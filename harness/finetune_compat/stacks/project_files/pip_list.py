"""The JSON that `pip list`, `uv pip list` and `conda list` print with `--format json` or `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_compat.stacks.project_files.entries import of_pin
from finetune_compat.stacks.project_files.text import Text, broken, quoted
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, OF_CONDA, Kind, Origin, Project, Source, unread

_KIND = Kind.PIP_LIST


def read(text: Text, raw: Any) -> Project:
    """The installed packages.

    Raises:
        ProjectFileError: it is not such a list.
    """
    if not isinstance(raw, list):
        raise broken(_KIND, text.place(), f"it is {quoted(raw)} and not a list of packages")
    packages, notes, line = [], [], 0
    for number, item in enumerate(raw, 1):
        if not isinstance(item, Mapping):
            raise broken(_KIND, text.place(line or 1), f"its entry {number} is {quoted(item)} and not a package")
        name = item.get("name")
        line = text.find(f'"{name}"', after=line) or line
        if item.get("channel", "pypi") != "pypi":  # only conda writes it, also for what pip installed
            notes.append(unread(f"{name} {item.get('version')}", OF_CONDA, text.place(line or 1)))
            continue
        editable = item.get("editable_project_location")
        source = Source(Origin.PATH, editable) if isinstance(editable, str) else DEFAULT_INDEX
        packages.append(of_pin(name, item.get("version"), text.place(line or 1), _KIND, source=source))
    return Project(_KIND, text.path, tuple(packages), tuple(notes))
