"""The known issues that the versions of a project fall into. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from finetune_compat.affected.packages import Asked, Project
from finetune_compat.affected.windows import allows, edges, excludes
from finetune_compat.checks.harm import Harm, worst
from finetune_compat.checks.ledger import Issue, Ledger, Scripted, Signature, Way
from finetune_compat.contract.catalog import Objective, Subject, flow_named
from finetune_compat.contract.verdict import Kind

PACKAGES = ("trl", "transformers", "peft", "bitsandbytes")
"""The packages that windows of the ledger name and a baseline measures, in the order of tables."""


class Certainty(StrEnum):
    """How surely the versions of a project fall into a window."""

    HIT = "hit"
    """Every version that the project allows is inside."""
    ALLOWED = "allowed"
    """Some are inside: what is installed decides."""


@dataclass(frozen=True, slots=True)
class Safe:
    """The nearest release of one package in which an issue does not show, with the other packages as they are."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class Hit:
    """One issue of a project."""

    issue: Issue
    certainty: Certainty
    harm: Harm
    """The most serious of the ways in which it shows."""
    shows: tuple[Way, ...]
    """The ways in which it shows in these versions."""
    packages: tuple[Asked, ...]
    """The packages of the project whose versions it depends on."""
    safe: tuple[Safe, ...]

    @property
    def signatures(self) -> tuple[Signature, ...]:
        """Those of `shows` that cells measured."""
        return tuple(shown for shown in self.shows if isinstance(shown, Signature))

    @property
    def counts(self) -> bool:
        """Whether it is a bug of these releases. A mistake that no release objects to, and a limit of a machine, are
        told without counting: versions alone do not say whether the project has them.
        """
        return self.issue.kind is Kind.UPSTREAM


@dataclass(frozen=True, slots=True)
class Answer:
    """What the ledger says about a project."""

    project: Project
    hits: tuple[Hit, ...]
    """The most serious first."""
    newer: tuple[Asked, ...]
    """Packages whose version is newer than every measured one: the ledger says nothing about it."""

    @property
    def known(self) -> bool:
        """Whether the project names any package of the ledger."""
        return any(name in self.project.packages for name in PACKAGES)


def answer(project: Project, ledger: Ledger) -> Answer:
    """The issues of `project`, and what cannot be said."""
    found = [hit for issue in ledger.issues if (hit := _hit(issue, project, ledger))]
    order = tuple(Harm)
    found.sort(key=lambda hit: (not hit.counts, hit.certainty is not Certainty.HIT, order.index(hit.harm)))
    return Answer(project, tuple(found), tuple(_newer(project, ledger)))


def _hit(issue: Issue, project: Project, ledger: Ledger) -> Hit | None:
    shows = [(shown, state) for shown in issue.ways if (state := _state(shown, issue, project)) is not None]
    if not shows:
        return None
    certain = any(state is Certainty.HIT for _, state in shows)
    # In a range that a window covers only in part, what another window of the issue covers may be the rest: no matter,
    # since then too some version is inside.
    names = dict.fromkeys(name for shown, _ in shows for name in shown.windows)
    return Hit(
        issue=issue,
        certainty=Certainty.HIT if certain else Certainty.ALLOWED,
        harm=worst({shown.harm for shown, _ in shows}),
        shows=tuple(shown for shown, _ in shows),
        packages=tuple(project.packages[name] for name in names if name in project.packages),
        safe=tuple(_safe(issue, project, ledger)) if issue.kind is Kind.UPSTREAM else (),
    )


def _state(shown: Way, issue: Issue, project: Project) -> Certainty | None:
    if project.complete and not _possible(shown, issue, project):
        return None
    named = [name for name in shown.windows if name in project.packages]
    if shown.windows and not named:
        return None
    inside = [_inside(project.packages[name], shown.windows[name]) for name in named]
    if None in inside or (project.complete and len(named) < len(shown.windows)):
        return None
    sure = len(named) == len(shown.windows) and all(state is Certainty.HIT for state in inside)
    return Certainty.HIT if sure else Certainty.ALLOWED


def _inside(asked: Asked, window: str) -> Certainty | None:
    inside = _specifiers(window)
    if asked.version and "===" not in str(asked.specifier):  # one version, as of every release that could be safe
        return Certainty.HIT if inside.contains(asked.version, prereleases=True) else None
    if not allows(asked.specifier, inside):
        return None
    return Certainty.ALLOWED if excludes(asked.specifier, inside) else Certainty.HIT


@cache
def _specifiers(window: str) -> SpecifierSet:
    return SpecifierSet(window)


def _possible(shown: Way, issue: Issue, project: Project) -> bool:
    """Whether a project that has exactly its packages can do what the script or one of the flows does."""
    if isinstance(shown, Scripted):
        return any(name.partition(".")[0] in project.packages for name in issue.imports)
    if shown.precisions and all(precision.quantized for precision in shown.precisions):
        needed = {"bitsandbytes"}
    else:
        needed = set()
    return any(needed | _needed(flow) <= project.packages.keys() for flow in shown.flows)


def _needed(name: str) -> set[str]:
    flow = flow_named(name)
    needed = {"transformers"}
    needed |= {"peft"} if flow.subject is Subject.ADAPTER else set()
    return needed | ({"trl"} if flow.objective is not Objective.PLAIN else set())


# -------------------------------------------------------------------------------------------------------- safe versions


def _safe(issue: Issue, project: Project, ledger: Ledger) -> Iterator[Safe]:
    """For each package that the issue depends on: the next newer release without it, else the next older one.

    No other bug shows in it that does not show today.
    """
    today = {other.id for other in _bugs(ledger) if _shows(other, project)}
    for name in dict.fromkeys(name for shown in issue.ways for name in shown.windows):
        asked = project.packages.get(name)
        if asked is None:
            continue
        releases = sorted(_candidates(name, ledger))
        at = _at(asked, [version for version in releases if _shows(issue, _moved(project, asked, version))])
        newer = (version for version in releases if version > at)
        older = (version for version in reversed(releases) if version < at)
        for version in (*newer, *older):
            there = _moved(project, asked, version)
            if {other.id for other in _bugs(ledger) if _shows(other, there)} <= today - {issue.id}:
                yield Safe(name, str(version))
                break


def _bugs(ledger: Ledger) -> Iterator[Issue]:
    return (issue for issue in ledger.issues if issue.kind is Kind.UPSTREAM)


def _at(asked: Asked, affected: list[Version]) -> Version:
    """The allowed version; of a range the newest affected one that it allows."""
    if asked.version:
        return Version(asked.version)
    allowed = [version for version in affected if asked.specifier.contains(version, prereleases=True)]
    return max(allowed, default=Version("0"))


def _candidates(name: str, ledger: Ledger) -> set[Version]:
    """The releases at the edges of windows. Edges lie between measured releases, and an upper one is a release that was
    measured without the issue.
    """
    windows = (shown.windows.get(name, "") for issue in ledger.issues for shown in issue.ways)
    newest = ledger.newest(name)
    return {edge for window in windows for edge in edges(SpecifierSet(window))} | (
        {Version(newest)} if newest else set()
    )


def _moved(project: Project, asked: Asked, version: Version) -> Project:
    there = Asked(asked.name, SpecifierSet(f"=={version}"), asked.file, asked.line)
    return Project(project.path, {**project.packages, asked.name: there}, project.complete)


def _shows(issue: Issue, project: Project) -> bool:
    return any(_state(shown, issue, project) is not None for shown in issue.ways)


def _newer(project: Project, ledger: Ledger) -> Iterator[Asked]:
    for name in PACKAGES:
        asked = project.packages.get(name)
        newest = ledger.newest(name)
        if asked and asked.version and newest and Version(asked.version) > Version(newest):
            yield asked
