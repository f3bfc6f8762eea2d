"""Pipfile.lock, version 6."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packaging.utils import canonicalize_name

from finetune_compat.stacks.project_files.entries import checked_marker, of_requirement, source_of_table
from finetune_compat.stacks.project_files.tables import strings, table_of
from finetune_compat.stacks.project_files.text import Text, broken, other_version, quoted
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Place, Project, Source

_KIND = Kind.PIPFILE_LOCK
_VERSION = 6


def read(text: Text, raw: Any) -> Project:
    """The locked packages.

    Raises:
        ProjectFileError: it is not a Pipfile.lock, or has another version.
    """
    if not isinstance(raw, Mapping) or not isinstance(raw.get("_meta"), Mapping):
        raise broken(_KIND, text.place(), "it has no table `_meta`")
    meta, top = raw["_meta"], text.place()
    version = meta.get("pipfile-spec")
    if version != _VERSION:
        raise other_version(_KIND, text.place(text.find('"pipfile-spec"')), version, "version 6")
    indexes = {
        str(item.get("name")): str(item.get("url", ""))
        for item in meta.get("sources") or ()
        if isinstance(item, Mapping)
    }
    packages = [
        package
        for section in raw
        if section != "_meta"
        for package in _section(text, section, table_of(raw, section, top, _KIND), indexes)
    ]
    python = table_of(meta, "requires", top, _KIND).get("python_version")
    return Project(_KIND, text.path, tuple(packages), (), f"=={python}.*" if isinstance(python, str) and python else "")


def _section(text: Text, section: str, listed: Mapping[str, Any], indexes: Mapping[str, str]) -> Iterator[Package]:
    line = text.find(f'"{section}"')
    for name, table in listed.items():
        line = text.find(f'"{name}"', after=line) or line
        place = text.place(line)
        if not isinstance(table, Mapping):
            raise broken(_KIND, place, f"the entry of {quoted(name)} is not a table")
        yield _package(name, table, place, section, indexes)


def _package(name: str, table: Mapping[str, Any], place: Place, section: str, indexes: Mapping[str, str]) -> Package:
    extras = strings(table, "extras", place, _KIND)
    marker = table.get("markers", "")
    source = source_of_table(table, index=())
    if source.origin is Origin.INDEX:
        source = Source(Origin.INDEX, indexes.get(str(table.get("index")), ""))
    version = str(table.get("version") or "")
    found = of_requirement(
        f"{name}{f'[{chr(44).join(extras)}]' if extras else ''} {version if version != '*' else ''}", place, _KIND
    )
    groups = {"default": (), "develop": ("group dev",)}.get(section, (f"group {section}",))
    return Package(
        name=canonicalize_name(found.name),
        specifier=found.specifier,
        place=place,
        version=found.version,
        marker=checked_marker(marker, place, _KIND) if marker else "",
        extras=found.extras,
        groups=groups,
        source=source,
    )
