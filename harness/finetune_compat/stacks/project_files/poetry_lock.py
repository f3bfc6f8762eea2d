"""poetry.lock, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.utils import canonicalize_name

from finetune_compat.stacks.project_files.entries import checked_marker, of_pin, source_of_table
from finetune_compat.stacks.project_files.graph import NOWHERE, marker_of, mask_of
from finetune_compat.stacks.project_files.poetry_versions import python_specifier
from finetune_compat.stacks.project_files.tables import Locked, only_elsewhere, strings, table_of, tables
from finetune_compat.stacks.project_files.text import Text, other_version
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
        raise other_version(_KIND, place, version, "version 1 or 2")
    entries = tables({"package": [], **raw}, "package", text, _KIND)
    extras = {name: _names(listed) for name, listed in table_of(raw, "extras", text.place(), _KIND).items()}
    packages = tuple(_package(item, extras) for item in entries)
    python = python_specifier(metadata.get("python-versions", ""), text.place(text.key("python-versions")), _KIND)
    return Project(_KIND, text.path, packages, (), python)


def _names(listed: Any) -> set[str]:
    """The packages of an extra. Older versions write them with their ranges, as `bitsandbytes (>=0.47)`."""
    return {canonicalize_name(str(item).partition(" ")[0]) for item in listed} if isinstance(listed, list) else set()


def _package(item: Locked, extras: Mapping[str, set[str]]) -> Package:
    table = item.table
    stated = strings(table, "groups", item.place, _KIND) or [str(table.get("category", "main"))]
    groups = () if "main" in stated else tuple(f"group {name}" for name in stated)
    marker = NOWHERE if only_elsewhere(table.get("files")) else _marker(item)
    if not groups and table.get("optional") is True:
        groups, marker = _optional(item.name(_KIND), marker, extras)
    return of_pin(
        table.get("name"),
        table.get("version"),
        item.place,
        _KIND,
        marker=marker,
        groups=groups,
        source=_source(table_of(table, "source", item.place, _KIND)),
    )


def _optional(name: str, marker: str, extras: Mapping[str, set[str]]) -> tuple[tuple[str, ...], str]:
    """The extras that bring a package, and its marker without them."""
    brought = {extra: mask_of(marker, frozenset(), (extra,)) for extra in extras}
    listed = {extra: mask for extra, mask in brought.items() if mask and (name in extras[extra] or "extra" in marker)}
    whole = 0
    for mask in listed.values():
        whole |= mask
    return (
        (tuple(f"extra {extra}" for extra in sorted(listed)), marker_of(whole)) if listed else (("an extra",), marker)
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
