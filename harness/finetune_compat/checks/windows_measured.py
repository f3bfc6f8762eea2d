"""The edges of the ledger's windows that were measured by package. They are in `windows.json`, next to the ledger.

`compat windows` measures and writes them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from packaging.version import Version

from finetune_compat.checks.ledger import Issue, Way
from finetune_compat.contract.errors import RecordsError
from finetune_compat.machine.places import places

WINDOWS = "windows.json"
"""The file, in the folder of the ledger."""


class EdgeBasis(StrEnum):
    """What the edge of a window rests on."""

    PACKAGE = "by package"
    """Two neighbouring releases of the package, with nothing else moved."""
    STACKS = "between stacks"
    """Stacks of the committed baselines. Other packages differ too, and releases may lie between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One release at an edge, and what the cell shows there."""

    version: str
    stack: str
    versions: Mapping[str, str]
    """Locked versions of the reported packages."""
    shows: str
    """The reason of the verdict, with the committed ledger; of a script the id of the issue and how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredEdge:
    """Two neighbouring releases at an edge of a window, measured."""

    issue: str
    shows: int
    """The place among the ways in which the issue shows, from 0."""
    package: str
    edge: str
    """For example `trl>=0.20.0` or `trl<0.23.1`; `trl==1.16.0` for the newest release of an open window."""
    cell: str
    """Without stack, for example `sft-peft-model[qwen2-nf4-gc]`; or the path of a script in the checkout."""
    inside: Side
    outside: Side | None
    """None: the window is open, and the release inside is the newest one."""
    moved: tuple[str, ...]
    """All other packages whose versions differ between the sides."""
    holds: bool | None
    """Whether the issue is shown inside and not outside. None: a side gave no result."""
    measured: str
    """When: UTC, with `Z` at the end."""
    script_sha256: str | None = None
    """sha256 of the script that was run, in hexadecimal; None for a cell."""

    @property
    def key(self) -> tuple[str, int, str]:
        """What identifies it."""
        return self.issue, self.shows, self.edge

    @property
    def by_package(self) -> bool:
        """Whether the edge holds and the package alone makes it."""
        return self.holds is True and not self.moved

    @property
    def answer(self) -> str:
        """The result in a few words."""
        if self.holds is None:
            return "could not be measured"
        if not self.holds:
            return "does not hold"
        if self.outside is None:
            return "shown by the newest release"
        return "measured by package" if self.by_package else "holds, with other packages that moved"


def edge_name(package: str, inside: str, outside: str | None) -> str:
    """The name of the edge between two neighbouring releases, for example `trl>=0.20.0` or `trl<0.23.1`.

    Of an open window without a release outside: `trl==1.16.0`.
    """
    if outside is None:
        return f"{package}=={inside}"
    below = Version(outside) < Version(inside)
    return f"{package}>={inside}" if below else f"{package}<{outside}"


def bases_of(issue: Issue, ways: Collection[Way], measured: Iterable[MeasuredEdge]) -> dict[str, dict[str, EdgeBasis]]:
    """What the edges of the windows of some ways of an issue rest on: by package, then by specifier.

    An edge of several ways is by package only if it was measured for each of them.
    """
    by_package = {edge.key for edge in measured if edge.by_package}
    found: dict[str, dict[str, EdgeBasis]] = {}
    for place, way in enumerate(issue.ways):
        for package, window in way.windows.items() if way in ways else ():
            edges = found.setdefault(package, {})
            for specifier in filter(None, map(str.strip, window.split(","))):
                sure = (issue.id, place, f"{package}{specifier}") in by_package
                if not sure or specifier not in edges:
                    edges[specifier] = EdgeBasis.PACKAGE if sure else EdgeBasis.STACKS
    return found


def read_windows(path: Path | None = None) -> tuple[MeasuredEdge, ...]:
    """The measured edges in `path`, by default the file next to the ledger. Without the file there are none.

    Raises:
        RecordsError: the file is invalid.
    """
    path = path or places().ledger.with_name(WINDOWS)
    try:
        return tuple(_edge(entry) for entry in json.loads(path.read_bytes())) if path.exists() else ()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RecordsError(
            "not a list of measured edges", where=str(path), meaning=str(error), todo="Write it again: compat windows"
        ) from None


def _edge(raw: Mapping[str, Any]) -> MeasuredEdge:
    sides = {name: Side(**raw[name]) if raw[name] else None for name in ("inside", "outside")}
    return MeasuredEdge(**{**raw, **sides, "moved": tuple(raw["moved"])})
