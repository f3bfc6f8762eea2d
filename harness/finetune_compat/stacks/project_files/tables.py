"""Checked access to the tables of lock files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from finetune_compat.stacks.project_files.text import Text, broken, quoted
from finetune_compat.stacks.project_files.value import Kind, Place


@dataclass(frozen=True, slots=True)
class Locked:
    """A package of a lock as it stands there, with its place."""

    table: Mapping[str, Any]
    place: Place

    def name(self, kind: Kind) -> str:
        """Its canonical name.

        Raises:
            ProjectFileError: it has none.
        """
        name = self.table.get("name")
        if not isinstance(name, str) or not name:
            raise broken(kind, self.place, "a package has no name")
        return canonicalize_name(name)


def tables(raw: Mapping[str, Any], key: str, text: Text, kind: Kind) -> tuple[Locked, ...]:
    """The list of tables below `key`, each with its line.

    Raises:
        ProjectFileError: there is no such list.
    """
    found = raw.get(key)
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise broken(kind, text.place(), f"it has no list of tables [[{key}]]")
    lines = text.headers(f"[[{key}]]", len(found))
    return tuple(Locked(item, text.place(line)) for item, line in zip(found, lines, strict=True))


def table_of(raw: Mapping[str, Any], key: str, place: Place, kind: Kind) -> Mapping[str, Any]:
    """The table below `key`; empty if there is none.

    Raises:
        ProjectFileError: it is not a table.
    """
    found = raw.get(key, {})
    if not isinstance(found, Mapping):
        raise broken(kind, place, f"{key} is {quoted(found)} and not a table")
    return found


def strings(raw: Mapping[str, Any], key: str, place: Place, kind: Kind) -> Sequence[str]:
    """The list of texts below `key`; empty if there is none.

    Raises:
        ProjectFileError: it is not a list of texts.
    """
    found = raw.get(key, ())
    if not isinstance(found, list | tuple) or not all(isinstance(item, str) for item in found):
        raise broken(kind, place, f"{key} is {quoted(found)} and not a list of texts")
    return found


def only_elsewhere(files: Any) -> bool:
    """Whether the files of a locked package, each a table with `file` or `url`, are wheels for other platforms only."""
    if not isinstance(files, list) or not files:
        return False
    names = [str(item.get("file") or item.get("url", "")) for item in files if isinstance(item, Mapping)]
    return bool(names) and all(_is_for_another_platform(name.rpartition("/")[2]) for name in names)


def _is_for_another_platform(file: str) -> bool:
    try:
        tags = parse_wheel_filename(file)[3]
    except (InvalidWheelFilename, ValueError):
        return False
    return all(tag.platform.startswith(("win", "macosx", "ios", "android")) for tag in tags)
