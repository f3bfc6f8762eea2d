"""Known issues over the releases of the packages that they depend on: where cells show them, and where not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from packaging.version import Version

from finetune_compat.atlas.survey import Baseline, Sight, State, Survey
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.checks.ledger import FREEZING, Issue, Ledger, Signature
from finetune_compat.checks.windows_measured import EdgeBasis, MeasuredEdge, bases_of
from finetune_compat.contract.records import REPORTED, Frame, Observation
from finetune_compat.history.search import History
from finetune_compat.results.lines import OWN_FILES


class Sighting(StrEnum):
    """What cells of one release say about an issue."""

    SEEN = "seen"
    PARTLY = "seen on some stacks"
    """Some stacks with this release show it, and others do not: it also depends on another package."""
    CLEAR = "not seen"
    UNKNOWN = "unknown"
    """No cell could show it: none was run, or another fault ended them all."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a package, and the cells that could show the issue on it."""

    version: str
    seen: int
    clear: int
    unknown: int
    stacks: tuple[str, ...]
    """Stacks whose cells show it."""
    clear_stacks: int
    """Number of stacks with cells that could, of which none does."""
    script: bool = False
    """Whether a script was run on it, and no cell."""

    @property
    def sighting(self) -> Sighting:
        """What these cells say together."""
        if self.seen:
            return Sighting.PARTLY if self.clear_stacks else Sighting.SEEN
        return Sighting.CLEAR if self.clear else Sighting.UNKNOWN


@dataclass(frozen=True, slots=True)
class Strip:
    """An issue over all measured releases of one package, oldest first."""

    package: str
    windows: tuple[str, ...]
    """Version specifiers of the ledger, without duplicates."""
    always: bool
    """Whether the ledger lists some of its cells for every release of the package."""
    releases: tuple[Release, ...]
    edges: Mapping[str, EdgeBasis]
    """What each edge of the windows rests on, by specifier."""

    @property
    def history(self) -> History[bool]:
        """The releases as a search sees them: whether cells show the issue; None where no cell could."""
        answers = {
            place: None if one.sighting is Sighting.UNKNOWN else one.seen > 0 for place, one in enumerate(self.releases)
        }
        return History(len(self.releases), (), answers)

    @property
    def first(self) -> str | None:
        """The first release that shows it."""
        return self._version(self._seen[:1])

    @property
    def last(self) -> str | None:
        """The last release that shows it."""
        return self._version(self._seen[-1:])

    @property
    def reaches_the_newest(self) -> bool:
        """Whether no release after the last that shows it was measured without it."""
        return self.last is not None and self.nearest_after is None

    @property
    def nearest_after(self) -> str | None:
        """The first release without it after the last release with it."""
        return self._version([edge.after for edge in self.history.boundaries if [edge.before] == self._seen[-1:]])

    @property
    def nearest_before(self) -> str | None:
        """The last release without it before the first release with it."""
        return self._version([edge.before for edge in self.history.boundaries if [edge.after] == self._seen[:1]])

    @property
    def _seen(self) -> list[int]:
        return [place for place, seen in self.history.results.items() if seen]

    def _version(self, places: Sequence[int]) -> str | None:
        return self.releases[places[0]].version if places else None


@dataclass(frozen=True, slots=True)
class Chain:
    """A call chain that froze or raised, in the versions of one stack."""

    frames: tuple[Frame, ...]
    message: str
    """Type and message of the error; empty for a freeze."""
    stack: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    """One issue, with all that the baselines show of it."""

    issue: Issue
    strips: tuple[Strip, ...]
    """By package of its windows; TRL alone for an issue without windows. At least one."""
    states: Mapping[State, int]
    """Cells that show it, by what the user gets; a limit of this machine by how the cell ended."""
    evidence: tuple[tuple[Baseline, int], ...]
    """Baselines with cells that show it, and how many."""
    first_day: str
    last_day: str
    """Days of the first and the last of these cells; empty if there are none."""
    flows: tuple[str, ...]
    chains: tuple[Chain, ...]
    """Distinct chains, each on the newest stack that has it."""
    scripts: tuple[str, ...] = ()
    """Paths in the checkout of scripts that were measured and show it."""

    @property
    def cells(self) -> int:
        """Number of cells that show it."""
        return sum(number for _, number in self.evidence)


def lines(survey: Survey, ledger: Ledger, measured: Sequence[MeasuredEdge] = ()) -> tuple[Line, ...]:
    """All known issues in the order of the ledger. `measured` has the edges that were measured by package."""
    return tuple(_line(issue, survey, measured) for issue in ledger.issues)


def _scripted(issue: Issue, measured: Sequence[MeasuredEdge]) -> tuple[MeasuredEdge, ...]:
    """The edges of the issue's scripts that hold."""
    return tuple(edge for edge in measured if edge.issue == issue.id and edge.shows >= len(issue.shows) and edge.holds)


def _line(issue: Issue, survey: Survey, measured: Sequence[MeasuredEdge]) -> Line:
    edges, bases = _scripted(issue, measured), bases_of(issue, issue.ways, measured)
    shown = [sight for sight in survey.sights if issue.id in sight.verdict.shown]
    baselines = Counter(sight.baseline.name for sight in shown)
    days = sorted([*(sight.day for sight in shown if sight.day), *(edge.measured[:10] for edge in edges)])
    order = {column.stack: place for place, column in enumerate(survey.columns)}
    seen = sorted((sight.seen for sight in shown if sight.seen), key=lambda one: order[one.stack.name], reverse=True)
    states = Counter(State.CRASHES if sight.seen and sight.seen.error else State.SILENT for sight in shown)
    return Line(
        issue=issue,
        strips=tuple(_strip(package, issue, survey, edges, bases.get(package, {})) for package in packages_of(issue)),
        states={state: states[state] for state in State if states[state]},
        evidence=tuple((one, baselines[one.name]) for one in survey.baselines if baselines[one.name]),
        first_day=days[0] if days else "",
        last_day=days[-1] if days else "",
        flows=tuple(flow.name for flow in survey.flows if any(one.flow == flow.name for one in seen)),
        chains=_distinct(chain for one in seen for chain in _chains(one, issue)),
        scripts=tuple(dict.fromkeys(edge.cell for edge in edges)),
    )


def packages_of(issue: Issue) -> tuple[str, ...]:
    """The packages in the windows of an issue, in the order of reports; without windows TRL, which trains the cells, or
    the library of a script.
    """
    named = {package for way in issue.ways for package in way.windows}
    return tuple(package for package in REPORTED if package in named) or ("trl" if issue.shows else issue.library,)


def _strip(
    package: str, issue: Issue, survey: Survey, edges: Sequence[MeasuredEdge], bases: Mapping[str, EdgeBasis]
) -> Strip:
    found: dict[str, list[Sight]] = {
        column.versions[package]: [] for column in survey.columns if package in column.versions
    }
    for sight in survey.sights:
        if sight.seen and package in sight.seen.stack.resolved and could_show(sight.seen, issue.shows):
            found[sight.seen.stack.resolved[package]].append(sight)
    scripted = _script_releases(package, edges)
    releases = {version: _release(version, issue, found[version]) for version in found if found[version] or not edges}
    windows = dict.fromkeys(way.windows.get(package, "") for way in issue.ways)
    return Strip(
        package=package,
        windows=tuple(filter(None, windows)),
        always="" in windows,
        releases=tuple({**scripted, **releases}[version] for version in sorted({*scripted, *releases}, key=Version)),
        edges=bases,
    )


def _script_releases(package: str, edges: Sequence[MeasuredEdge]) -> dict[str, Release]:
    """The releases on which scripts were run, by version."""
    found: dict[str, Release] = {}
    for edge in edges:
        for side, seen in ((edge.inside, True), (edge.outside, False)):
            if side and edge.package == package:
                stacks = (side.stack,) if seen else ()
                found[side.version] = Release(side.version, int(seen), int(not seen), 0, stacks, 0, script=True)
    return found


def could_show(seen: Observation, signatures: Sequence[Signature]) -> bool:
    """Whether the cell is of a flow and variant that `signatures` list, in whichever releases."""
    cell = (seen.flow, seen.variant, seen.device.kind)
    return any(
        dataclasses.replace(signature, windows={}).takes_in(*cell, {})
        and (signature.check not in DEEP_CHECKS or seen.deep is not None or seen.error is not None)
        for signature in signatures
    )


def _release(version: str, issue: Issue, sights: Sequence[Sight]) -> Release:
    seen = [sight for sight in sights if issue.id in sight.verdict.shown]
    clear = [sight for sight in sights if issue.id not in sight.verdict.shown and _reached(sight, issue)]
    stacks = dict.fromkeys(sight.seen.stack.name for sight in seen if sight.seen)
    others = {sight.seen.stack.name for sight in clear if sight.seen}
    return Release(
        version=version,
        seen=len(seen),
        clear=len(clear),
        unknown=len(sights) - len(seen) - len(clear),
        stacks=tuple(stacks),
        clear_stacks=len(others - stacks.keys()),
    )


def _reached(sight: Sight, issue: Issue) -> bool:
    """Whether the cell would show the issue if it were there: it is not listed for the cell, and nothing ended it."""
    if issue.id in sight.verdict.issues:
        return False
    return sight.state in (State.TRAINS, State.REFUSES) or (sight.state is State.SILENT and bool(sight.verdict.shown))


def _chains(seen: Observation, issue: Issue) -> Iterable[Chain]:
    if any(signature.check in FREEZING for signature in issue.shows):
        for freeze in seen.freezes:
            yield Chain(_library_part(freeze.frames), "", seen.stack.name, seen.stack.resolved)
    elif seen.error and any(signature.error for signature in issue.shows):
        message = f"{seen.error.type}: {seen.error.message}"
        yield Chain(_library_part(seen.error.frames), message, seen.stack.name, seen.stack.resolved)


def _library_part(frames: tuple[Frame, ...]) -> tuple[Frame, ...]:
    return tuple(frame for frame in frames if not frame.file.startswith(OWN_FILES))


def _distinct(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """The first of each: line numbers do not count, because they differ between releases."""
    found: dict[object, Chain] = {}
    for chain in chains:
        if chain.frames:
            found.setdefault(tuple((frame.file, frame.function) for frame in chain.frames), chain)
    return tuple(found.values())
