"""pdm.lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_compat.stacks.project_files.entries import checked_marker, checked_specifier, of_pin, source_of_table
from finetune_compat.stacks.project_files.graph import NOWHERE
from finetune_compat.stacks.project_files.tables import Locked, only_elsewhere, strings, table_of, tables
from finetune_compat.stacks.project_files.text import Text, other_version
from finetune_compat.stacks.project_files.value import Kind, Package, Project

_KIND = Kind.PDM_LOCK
_VERSION = "4."


def read(text: Text, raw: Mapping[str, Any]) -> Project:
    """The locked packages.

    Raises:
        ProjectFileError: it is not a pdm.lock, or has another version.
    """
    metadata = table_of(raw, "metadata", text.place(), _KIND)
    version = str(metadata.get("lock_version", "none"))
    if not version.startswith(_VERSION):
        place = text.place(text.key("lock_version"))
        raise other_version(_KIND, place, version, "version 4")
    entries = tables({"package": [], **raw}, "package", text, _KIND)
    place = text.place(text.key("requires_python"))
    targets = metadata.get("targets")
    stated = (
        next((one.get("requires_python", "") for one in targets if isinstance(one, Mapping)), "")
        if isinstance(targets, list)
        else ""
    )
    # With the strategy `no_cross_platform` there are targets; an entry with extras repeats the package without them.
    packages = tuple(_package(item) for item in entries if not item.table.get("extras"))
    return Project(_KIND, text.path, packages, (), checked_specifier(stated, place, _KIND))


def _package(item: Locked) -> Package:
    table = item.table
    stated = strings(table, "groups", item.place, _KIND)
    groups = () if not stated or "default" in stated else tuple(f"group {name}" for name in stated)
    marker = table.get("marker", "")
    if only_elsewhere(table.get("files")):
        marker = NOWHERE
    elif marker:
        marker = checked_marker(marker, item.place, _KIND)
    return of_pin(
        table.get("name"),
        table.get("version"),
        item.place,
        _KIND,
        marker=marker,
        groups=groups,
        source=source_of_table(table, index=()),
    )
