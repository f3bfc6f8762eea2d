"""pylock.toml (PEP 751)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.markers import Marker
from packaging.pylock import Package as LockedPackage
from packaging.pylock import Pylock, PylockValidationError

from finetune_compat.stacks.project_files.entries import checked_marker, first_line, of_pin
from finetune_compat.stacks.project_files.graph import NOWHERE, marker_of, mask_of
from finetune_compat.stacks.project_files.text import Text, broken
from finetune_compat.stacks.project_files.value import Kind, Origin, Package, Place, Project, Source

_KIND = Kind.PYLOCK


def read(text: Text, raw: Mapping[str, Any]) -> Project:
    """The locked packages.

    Raises:
        ProjectFileError: it is not a pylock.toml.
    """
    try:
        lock = Pylock.from_dict(raw)
    except (PylockValidationError, ValueError, RecursionError, TypeError) as error:
        raise broken(_KIND, text.place(), f"it is not a valid pylock.toml: {first_line(error)}") from None
    lines = text.headers("[[packages]]", len(lock.packages))
    default, every = frozenset(lock.default_groups or ()), frozenset(lock.dependency_groups or ())
    packages = tuple(
        _package(item, text.place(line), default, every, tuple(lock.extras or ()))
        for item, line in zip(lock.packages, lines, strict=True)
    )
    python = str(lock.requires_python) if lock.requires_python is not None else ""
    return Project(_KIND, text.path, packages, (), python)


def _package(
    item: LockedPackage, place: Place, default: frozenset[str], every: frozenset[str], extras: tuple[str, ...]
) -> Package:
    marker, groups = _needed(item.marker, default, every, extras, place)
    source = _source(item)
    version = None if item.version is None else str(item.version)
    if version is None:
        return Package(item.name, "", place, marker=marker, groups=groups, source=source)
    return of_pin(item.name, version, place, _KIND, marker=marker, groups=groups, source=source)


def _needed(
    marker: Marker | None, default: frozenset[str], every: frozenset[str], extras: tuple[str, ...], place: Place
) -> tuple[str, tuple[str, ...]]:
    """The marker by Python version, and the extras and groups that bring the package."""
    if marker is None:
        return "", ()
    text = checked_marker(str(marker), place, _KIND)
    always = mask_of(text, default, ())
    if always:
        return marker_of(always), ()
    by_group = {f"group {name}": mask_of(text, default | {name}, ()) for name in every - default}
    by_group |= {f"extra {name}": mask_of(text, default, (name,)) for name in extras}
    used = {name: mask for name, mask in by_group.items() if mask}
    whole = 0
    for mask in used.values():
        whole |= mask
    return (marker_of(whole), tuple(sorted(used))) if used else (NOWHERE, ())


def _source(item: LockedPackage) -> Source:
    if item.vcs is not None:
        address = item.vcs.url or item.vcs.path or ""
        return Source(Origin.GIT, f"git+{address}@{item.vcs.commit_id}")
    if item.directory is not None:
        return Source(Origin.PATH, item.directory.path)
    if item.archive is not None:
        return Source(Origin.URL if item.archive.url else Origin.PATH, item.archive.url or item.archive.path or "")
    return Source(Origin.INDEX, item.index or "")
