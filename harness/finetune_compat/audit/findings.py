"""What a pattern says about one place of a project."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from packaging.specifiers import SpecifierSet

from finetune_compat.audit.values import Place
from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.patterns import PATTERNS, Pattern


class Status(StrEnum):
    """The answer for one place, the most serious first."""

    HIT = "hit"
    RUN = "run it to know"
    NOT_HIT = "not hit"
    """The pattern is there, and these versions are outside its window."""


@dataclass(frozen=True)
class Fix:
    """A change of one call."""

    node: ast.AST
    add: Mapping[str, str] = field(default_factory=dict)
    """Arguments to set, as Python."""
    remove: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.rename)


@dataclass(frozen=True)
class Finding:
    """One pattern at one place."""

    pattern: str
    status: Status
    place: Place
    why: str
    """One sentence, about this place."""
    parts: tuple[Place, ...] = ()
    """Other places that belong to it, such as the function that wraps the model."""
    fix: Fix | None = None
    when: str = ""
    """The conditions under which it holds; empty if it always does."""

    @property
    def of(self) -> Pattern:
        """The pattern."""
        return PATTERNS[self.pattern]


@dataclass(frozen=True)
class Releases:
    """The versions that code is joined with."""

    versions: Mapping[str, str]
    """Exact versions by package; a package whose version is not known is not in it."""
    complete: bool = False
    """Whether every package that is installed is among `installed`."""
    installed: frozenset[str] = frozenset()
    ledger: Ledger = field(default_factory=lambda: Ledger(issues=()))

    def inside(self, windows: Mapping[str, str]) -> bool | None:
        """Whether the versions are in all windows; None if that is not known."""
        known = [
            SpecifierSet(window).contains(self.versions[name], prereleases=True)
            for name, window in windows.items()
            if name in self.versions
        ]
        if False in known:
            return False
        return True if len(known) == len(windows) else None

    def listed(self, issue: str, *flows: str) -> bool | None:
        """Whether the versions are in a window of an issue, in one of these flows if any are named."""
        found: list[bool | None] = []
        for entry in self.ledger.issues:
            if entry.id == issue:
                found += [
                    self.inside(shown.windows) for shown in entry.shows if not flows or set(flows) & set(shown.flows)
                ]
        if True in found:
            return True
        return None if None in found else False

    def windows(self, issue: str, package: str) -> tuple[str, ...]:
        """The windows of an issue for one package, as in the ledger."""
        entries = (shown for entry in self.ledger.issues if entry.id == issue for shown in entry.shows)
        return tuple(dict.fromkeys(shown.windows[package] for shown in entries if package in shown.windows))

    def text(self, *names: str) -> str:
        """`TRL 0.22.2, Transformers 4.56.0`."""
        words = {"trl": "TRL", "transformers": "Transformers", "peft": "PEFT"}
        return ", ".join(f"{words.get(name, name)} {self.versions[name]}" for name in names if name in self.versions)


def status_of(inside: bool | None, *unsure: object) -> Status:  # noqa: FBT001 - the one value
    """The status: `inside` the window or not or unknown, and reasons that only a run decides."""
    if inside is False:
        return Status.NOT_HIT
    return Status.RUN if inside is None or any(unsure) else Status.HIT
