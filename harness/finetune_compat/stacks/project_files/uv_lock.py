"""uv.lock, version 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packaging.utils import canonicalize_name

from finetune_compat.stacks.project_files.entries import (
    checked_marker,
    checked_specifier,
    of_pin,
    source_of_table,
)
from finetune_compat.stacks.project_files.graph import Edge, Reached, reached
from finetune_compat.stacks.project_files.tables import Locked, strings, table_of, tables
from finetune_compat.stacks.project_files.text import Text, broken, other_version
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Project, unread

_KIND = Kind.UV_LOCK
_OWN = ("editable", "virtual")
"""Sources of the project itself and the members of its workspace."""


def read(text: Text, raw: Mapping[str, Any]) -> Project:
    """The locked packages.

    Raises:
        ProjectFileError: it is not a uv.lock, or has another version.
    """
    if raw.get("version") != 1:
        raise other_version(_KIND, text.place(text.key("version")), raw.get("version"), "version 1")
    entries = tables(raw, "package", text, _KIND)
    lock = _Lock(text, entries)
    used = lock.reached()
    packages = [lock.package(place, used.get(place)) for place in range(len(entries)) if not lock.own(place)]
    own = [
        unread(str(item.table.get("name")), "the project itself; it is not installed", item.place)
        for place, item in enumerate(entries)
        if lock.own(place)
    ]
    python = checked_specifier(raw.get("requires-python", ""), text.place(text.key("requires-python")), _KIND)
    return Project(_KIND, text.path, tuple(packages), tuple(own), python)


class _Lock:
    """The packages of the lock, and who needs whom."""

    def __init__(self, text: Text, entries: Sequence[Locked]) -> None:
        self.text, self.entries = text, entries
        self.places: dict[str, list[int]] = {}
        for place, item in enumerate(entries):
            self.places.setdefault(item.name(_KIND), []).append(place)

    def own(self, place: int) -> bool:
        """Whether it is the project itself."""
        return any(key in self._source(place) for key in _OWN)

    def _source(self, place: int) -> Mapping[str, Any]:
        return table_of(self.entries[place].table, "source", self.entries[place].place, _KIND)

    def package(self, place: int, of: Reached | None) -> Package:
        """A locked package. One that nothing reaches is always installed, under its own markers."""
        item = self.entries[place]
        own = [
            checked_marker(mark, item.place, _KIND)
            for mark in strings(item.table, "resolution-markers", item.place, _KIND)
        ]
        marker = of.marker if of else ""
        forks = " or ".join(f"({mark})" for mark in own)
        both = " and ".join(f"({part})" for part in (marker, forks) if part)
        version = item.table.get("version")
        source = source_of_table(self._source(place))
        more: dict[str, Any] = {"marker": both, "groups": of.groups if of else (), "source": source}
        if version is None and source.origin is not Origin.INDEX:
            return Package(item.name(_KIND), "", item.place, **more)
        return of_pin(item.table.get("name"), version, item.place, _KIND, **more)

    def reached(self) -> dict[int, Reached]:
        """Who brings each package."""
        starts: dict[str, list[Edge]] = {"": []}
        for place, item in enumerate(self.entries):
            if not self.own(place):
                continue
            starts[""] += self._edges(item, item.table.get("dependencies", ()))
            for kind, key in (("extra", "optional-dependencies"), ("group", "dev-dependencies")):
                for name, listed in table_of(item.table, key, item.place, _KIND).items():
                    starts.setdefault(f"{kind} {name}", []).extend(self._edges(item, listed))
        return reached(starts, self._below) if any(starts.values()) else {}

    def _below(self, place: int, extra: str) -> Sequence[Edge]:
        item = self.entries[place]
        if not extra:
            return self._edges(item, item.table.get("dependencies", ()))
        optional = table_of(item.table, "optional-dependencies", item.place, _KIND)
        return self._edges(item, optional.get(extra, ()))

    def _edges(self, item: Locked, listed: Any) -> list[Edge]:
        if not isinstance(listed, list | tuple) or not all(isinstance(one, Mapping) for one in listed):
            raise broken(_KIND, item.place, f"the dependencies of {item.table.get('name')} are not a list of tables")
        return [edge for one in listed for edge in self._edge(item, one)]

    def _edge(self, item: Locked, one: Mapping[str, Any]) -> list[Edge]:
        name, version = str(one.get("name", "")), one.get("version")
        marker = one.get("marker", "")
        if marker:
            marker = checked_marker(marker, item.place, _KIND)
        extras = tuple(strings(one, "extra", item.place, _KIND))
        return [
            Edge(place, extras, marker)
            for place in self.places.get(canonicalize_name(name), ())
            if version is None or self.entries[place].table.get("version") == version
        ]
