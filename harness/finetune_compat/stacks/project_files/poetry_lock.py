"""poetry.lock, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_compat.stacks.project_files.entries import checked_marker, of_pin, source_of_table
from finetune_compat.stacks.project_files.graph import NOWHERE
from finetune_compat.stacks.project_files.poetry_versions import python_specifier
from finetune_compat.stacks.project_files.tables import Locked, only_elsewhere, strings, table_of, tables
from finetune_compat.stacks.project_files.text import Text, broken, quoted
from finetune_compat.stacks.project_files.value import DEFAULT_INDEX, Kind, Origin, Package, Project, Source

_KIND = Kind.POETRY_LOCK
_VERSIONS = ("1.", "2.")


def read(text: Text, raw: Mapping[str, Any]) -> Project:
    """The locked packages.

    Raises:
        ProjectFileError: it is not a poetry.lock, or has another version.
    """
    metadata = table_of(raw, "metadata", text.place(), _KIND)
    version = str(metadata.get("lock-version", "1.0"))
    if not version.startswith(_VERSIONS):
        place = text.place(text.key("lock-version"))
        raise broken(_KIND, place, f"it has lock version {quoted(version)}; versions 1 and 2 are read")
    entries = tables({"package": [], **raw}, "package", text, _KIND)
    packages = tuple(_package(item) for item in entries)
    python = python_specifier(metadata.get("python-versions", ""), text.place(text.key("python-versions")), _KIND)
    return Project(_KIND, text.path, packages, (), python)


def _package(item: Locked) -> Package:
    table = item.table
    stated = strings(table, "groups", item.place, _KIND) or [str(table.get("category", "main"))]
    groups = () if "main" in stated else tuple(f"group {name}" for name in stated)
    if not groups and table.get("optional") is True:
        groups = ("an extra",)
    files = table.get("files")
    marker = NOWHERE if only_elsewhere(files) else _marker(item)
    source = table_of(table, "source", item.place, _KIND)
    return of_pin(
        table.get("name"),
        table.get("version"),
        item.place,
        _KIND,
        marker=marker,
        groups=groups,
        source=_source(source),
    )


def _marker(item: Locked) -> str:
    """The marker of lock version 2. It is one text, or one for each group."""
    stated = item.table.get("markers", "")
    if isinstance(stated, Mapping):
        each = [checked_marker(mark, item.place, _KIND) for mark in stated.values()]
        listed = strings(item.table, "groups", item.place, _KIND)
        # A group without a marker needs the package everywhere.
        return "" if set(listed) - set(stated) else " or ".join(f"({mark})" for mark in each)
    return checked_marker(stated, item.place, _KIND) if stated else ""


def _source(table: Mapping[str, Any]) -> Source:
    address = str(table.get("url", ""))
    match table.get("type"):
        case "git":
            return source_of_table(
                {"git": address, "rev": str(table.get("resolved_reference") or table.get("reference") or "")}
            )
        case "url":
            return Source(Origin.URL, address)
        case "directory" | "file":
            return Source(Origin.PATH, address)
        case _:
            return Source(Origin.INDEX, address) if address else DEFAULT_INDEX
