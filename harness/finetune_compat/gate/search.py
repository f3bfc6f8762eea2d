"""Search for the nearest safe target of each regression: run other releases in the run of the gate.

The releases between the two sides are bisected: the one in use passes, and the requested one does not. Those above are
run at growing distances until one passes, and then bisected. Both begin where the baselines expect the change. What the
ledger lists does not count: a window that is too wide must not hide a release.

Releases are started for the cause with the most urgent effect. Its start of a release runs cells of all causes. For a
further cause that the baselines show too, no other release is started: each costs an environment and an import.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from packaging.version import Version

from finetune_compat.checks.comparison import Change, Health, health
from finetune_compat.checks.script_checks import called_by_the_script
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, RegistryUnreachable
from finetune_compat.contract.records import REPORTED, DeviceKind
from finetune_compat.contract.verdict import Verdict
from finetune_compat.gate.decide import RANK, Compared, moved
from finetune_compat.gate.decision import CellChange, CellSide, Moved, Rule, SafeTarget, Tried
from finetune_compat.gate.foretold import on_releases
from finetune_compat.gate.known import Known
from finetune_compat.gate.mixture import Two
from finetune_compat.gate.resolve import of_release
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.sides import GateSelection, Runs
from finetune_compat.gate.targets import Suspect, candidates, suspect
from finetune_compat.history.search import History, next_runs
from finetune_compat.results.order import AXES
from finetune_compat.stacks import index
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import Matrix

_PINNED = (Rule.FILE, Rule.LIVE)
"""Rules of sides whose other versions come from the user."""


@dataclass(frozen=True, slots=True)
class Search:
    """Runs other releases in place of the requested one."""

    matrix: Matrix
    runner: Runs
    before: Resolved
    after: Resolved
    device: DeviceKind
    bound: int
    """Maximum number of releases to run for one cause."""
    known: Known | None = None
    """The baselines, which say where a change is expected. What they expect of the most urgent cause is run too."""
    started: dict[str, set[Version]] = field(default_factory=dict)
    """Releases that were run, by package."""

    def of(self, given: Compared, cells: Sequence[CellChange]) -> dict[str, SafeTarget]:
        """The nearest safe target by regressed cell. A cell is missing where the package to search is unknown."""
        by_cause: dict[tuple[object, ...], list[CellChange]] = {}
        for cell in cells:
            if cell.change is Change.REGRESSED and cell.exception is None and cell.after is not None:
                by_cause.setdefault(_cause(cell.after), []).append(cell)
        found: dict[str, SafeTarget] = {}
        causes = sorted(by_cause.values(), key=_urgency, reverse=True)
        # Starting a stack takes longer than a cell: what runs for one cause is cached for the next.
        firsts = tuple(parse_cell(f"/{same[0].name}").test for same in causes)
        for same in causes if self.bound else ():
            target = self._of_cause(given, same, firsts)
            found.update({cell.name: target for cell in same} if target else {})
        return found

    def _of_cause(self, given: Compared, cells: Sequence[CellChange], firsts: tuple[str, ...]) -> SafeTarget | None:
        package = self._suspect(given, cells)
        if package is None:
            return None
        try:
            there = index.releases(package.package)
        except CompatError as error:
            self.runner.progress(f"no search for a safe target: {error.what}")
            return None
        every = tuple(parse_cell(f"/{cell.name}").test for cell in cells)
        one = GateSelection(cells=every[:1])
        expected = on_releases(self.known, package.package, [cell.name for cell in cells]) if self.known else {}
        if self.started and self._is_held(package, cells, expected):
            started = frozenset(self.started.get(package.package, ()))
            found = self._looked_up(package, there, started, one, expected)
            there = tuple(release for release in there if release.version in started)
        else:

            def cells_on(release: Release) -> GateSelection:
                # A release that is expected to pass must then pass every cell: one start of it serves both.
                also = every if expected.get(release.version) else ()
                return GateSelection(cells=tuple(dict.fromkeys((*one.cells, *firsts, *also))))

            self._start(package, foreseen(package, there, self.bound, expected), cells_on)
            found = search(package, there, lambda it: self._try(package, it, one, cells_on(it)), self.bound, expected)
        named = [Version(version) for version in (found.version, found.between) if version]
        # In the baselines all cells of the cause pass where `expected` is true.
        told = found.foretold and all(expected.get(version) for version in named)
        return found if told or len(every) == 1 else self._confirmed(found, package, there, GateSelection(cells=every))

    def _start(
        self, package: Suspect, releases: Sequence[Release], cells_on: Callable[[Release], GateSelection]
    ) -> None:
        """Run the cells of the releases that the search is expected to ask for, all at once."""
        if len(releases) < 2:  # noqa: PLR2004 - one alone gains nothing
            return
        self.runner.progress(f"trying {package.package} {', '.join(str(one.version) for one in releases)}")
        asked: list[tuple[Resolved, GateSelection]] = []
        for release in releases:
            with contextlib.suppress(CompatError):  # it is said when the search asks for the release
                asked.append((self._with(package, release), cells_on(release)))
        self.runner.ahead(asked)

    def _is_held(self, package: Suspect, cells: Sequence[CellChange], expected: Mapping[Version, bool]) -> bool:
        """Whether the baselines show the change of all cells between the same two releases, among packages of a day."""
        held = {cell.name for cell in self.known.cells} if self.known else set()
        both = expected.get(package.before), expected.get(package.after)
        return both == (True, False) and {cell.name for cell in cells} <= held and self.after.rule not in _PINNED

    def _looked_up(
        self,
        package: Suspect,
        there: Sequence[Release],
        started: Collection[Version],
        cell: GateSelection,
        expected: Mapping[Version, bool],
    ) -> SafeTarget:
        """The target among the releases that were started for another cause, and those that the baselines measured."""
        ran = {one.version: self._try(package, one, cell) for one in there if one.version in started}
        # What was measured here counts, also where the baselines say something else.
        passing = {**expected, **{version: tried.passes for version, tried in ran.items() if tried}}

        def passes(release: Release) -> Tried | None:
            if release.version in ran:
                return ran[release.version]
            passed = expected[release.version]
            return Tried(str(release.version), passed, "" if passed else "in the baselines")

        near = [release for release in there if release.version in {*ran, *expected}]
        found = search(package, near, passes, len(near), passing)
        above, below = candidates(package, there)
        named = {one.version for one in found.tried}
        untried = 0 if found.version else sum(str(release.version) not in named for release in (*above, *below))
        return replace(found, untried=untried, foretold=True)

    def _confirmed(
        self, found: SafeTarget, package: Suspect, there: Sequence[Release], every: GateSelection
    ) -> SafeTarget:
        """`found`, which one cell passes, without releases of `there` that the other cells of the cause do not pass."""
        named = {found.version, found.between}
        results = {str(one.version): self._try(package, one, every) for one in there if str(one.version) in named}
        tried = tuple(results.get(one.version) or one for one in found.tried)
        failing = {version for version, result in results.items() if result is not None and not result.passes}
        between = found.between if found.between not in failing else None
        above = found.version if found.above and found.version not in failing else None
        return replace(found, version=above or between, above=above is not None, between=between, tried=tried)

    def _suspect(self, given: Compared, cells: Sequence[CellChange]) -> Suspect | None:
        """The package at fault. Where nothing names one of several that moved, they are moved one at a time."""
        found = self._named(given, cells)
        if found is not None:
            return found
        both = [item for item in moved(given.before.versions, given.after.versions) if item.before and item.after]
        selection = GateSelection(cells=tuple(parse_cell(f"/{cell.name}").test for cell in cells[:1]))
        for item in sorted((item for item in both if item.package in AXES), key=_likeliest):
            if self._fails_with(item.package, selection):
                return Suspect(item.package, Version(str(item.before)), Version(str(item.after)))
        return None

    def _fails_with(self, package: str, selection: GateSelection) -> bool:
        """Whether the side in use no longer passes with one package, and what must follow it, of the requested side."""
        self.runner.progress(f"is it {package}?")
        try:
            of = Two(self.matrix, self.device, self.before, self.after).moved((package,))
            self.runner.cells(of, selection)
        except CompatError as error:
            self.runner.progress(f"{package}: {error.what}")
            return False
        result = _tried(package, self._verdicts(of, selection), selection, "")
        return result is not None and not result.passes and not isinstance(of.lock, Unsolvable)

    def _verdicts(self, of: Resolved, selection: GateSelection) -> list[Verdict]:
        verdicts = self.runner.results().verdicts
        return [one for one in verdicts if parse_cell(one.cell).stack == of.stack and _asked(one, selection)]

    def _named(self, given: Compared, cells: Sequence[CellChange]) -> Suspect | None:
        """The package that the ledger, a freezing line or the only pin names."""
        after = cells[0].after
        line = after.line if after else None
        freezes = after.seen.freezes if after and after.seen else ()
        chains = (*line.freezes, *((line.error.frames,) if line.error else ())) if line else ()
        return suspect(
            moved(given.before.versions, given.after.versions),
            pinned=[pin.name for pin in self.after.pins],
            issues=line.issues if line else (),
            files=[frame.file for chain in chains for frame in chain[-1:]],
            ledger=given.ledger,
            froze=[file for freeze in freezes if (file := called_by_the_script(freeze))],
        )

    def _try(
        self, package: Suspect, release: Release, selection: GateSelection, run: GateSelection | None = None
    ) -> Tried | None:
        """The result of the selected cells on a release. All cells of `run` run; None: the selected ones."""
        version = str(release.version)
        self.started.setdefault(package.package, set()).add(release.version)
        self.runner.progress(f"does {package.package} {version} pass?")
        try:
            of = self._with(package, release)
            self.runner.cells(of, run or selection)
        except RegistryUnreachable as error:
            self.runner.progress(f"{version}: {error.what}")
            return None
        except CompatError as error:
            return Tried(version, False, error.what)
        return _tried(version, self._verdicts(of, selection), selection, self._beside(package, of))

    def _with(self, package: Suspect, release: Release) -> Resolved:
        """The requested side with another release.

        Where the side's pins conflict with the release, for example those of a lock file, the other packages are as of
        the day of the release.
        """
        asked = (package.package, release.version, release.day, self.matrix, self.device)
        of = of_release(self.after, *asked)
        if isinstance(of.lock, Unsolvable) and self.after.rule in _PINNED:
            return of_release(replace(self.after, rule=Rule.OF_ITS_DAY, pins=()), *asked)
        return of

    def _beside(self, package: Suspect, of: Resolved) -> str:
        """Other packages whose pins of a file or environment must change with the release; empty if there are none."""
        if self.after.rule not in _PINNED or of.rule is self.after.rule:
            return ""
        if isinstance(of.lock, Unsolvable) or isinstance(self.after.lock, Unsolvable):
            return ""
        there = moved(self.after.lock.requirements, of.lock.requirements)
        names = [item for item in there if item.package in REPORTED and item.package != package.package]
        return ", ".join(f"{item.package} {item.after}" for item in names if item.after)


Passes = Callable[[Release], Tried | None]
"""Runs the regressed cells on a release; returns None where the machine failed."""


def search(
    of: Suspect,
    there: Sequence[Release],
    passes: Passes,
    bound: int,
    expected: Mapping[Version, bool] = MappingProxyType({}),
) -> SafeTarget:
    """The first release above the requested one that passes, and the newest between the two sides that does.

    Args:
        of: the package with both versions.
        there: its releases.
        passes: runs a release.
        bound: the most releases to run. Half of them are kept for the releases between the sides.
        expected: whether releases pass elsewhere. It orders the runs, and is no result.
    """
    above, below = candidates(of, there)
    walk = _Walk(passes, expected)
    higher = walk.above(above, bound - min(len(below), bound // 2))
    lower = walk.between(tuple(reversed(below)), bound)
    found = higher or lower
    return SafeTarget(
        package=of.package,
        version=str(found.version) if found else None,
        above=higher is not None,
        tried=tuple(walk.tried),
        untried=0 if found else len(above) + len(below) - len(walk.ran),
        between=str(lower.version) if lower else None,
    )


def foreseen(
    of: Suspect, there: Sequence[Release], bound: int, expected: Mapping[Version, bool]
) -> tuple[Release, ...]:
    """The releases that `search` runs first, if they pass as expected."""
    ran: list[Release] = []

    def passes(release: Release) -> Tried | None:
        if release.version not in expected:
            return None
        ran.append(release)
        return Tried(str(release.version), expected[release.version], "")

    search(of, there, passes, bound, expected)
    return tuple(ran)


@dataclass(slots=True)
class _Walk:
    """The releases that were run so far."""

    passes: Passes
    expected: Mapping[Version, bool]
    ran: dict[Release, bool | None] = field(default_factory=dict)
    """Whether each passes; None where the machine failed."""
    tried: list[Tried] = field(default_factory=list)

    def above(self, way: Sequence[Release], most: int) -> Release | None:
        """The first release of `way` that passes. The requested release, which does not pass, lies before it."""
        failed = 0
        first = next((place for place, one in enumerate(way, 1) if self.expected.get(one.version)), 0)
        for distance in (*([first] if first else []), *(one for one in _growing(len(way)) if one > first)):
            if len(self.ran) >= most:
                return None
            passed = self._run(way[distance - 1])
            if passed:
                inside = way[failed : distance - 1]
                sample = (len(inside),) if distance == first and inside else ()
                found = self._bisected(inside, before=False, most=most, sample=sample)
                return next(iter(found), way[distance - 1])
            failed = distance if passed is False else failed
        return None

    def between(self, way: Sequence[Release], most: int) -> Release | None:
        """The newest release of `way` that passes. It lies between the side in use and the requested one."""
        passing = self._bisected(way, before=True, most=most, sample=self._edge(way))
        return passing[-1] if passing else None

    def _edge(self, way: Sequence[Release]) -> tuple[int, ...]:
        """The last place of `way` that is expected to pass, and the first after it that is not; fewer if unknown."""
        known = {place: self.expected[one.version] for place, one in enumerate(way, 1) if one.version in self.expected}
        last = max((place for place, passes in known.items() if passes), default=0)
        fails = next((place for place, passes in known.items() if place > last and not passes), 0)
        return tuple(place for place in (last, fails) if place)

    def _bisected(self, way: Sequence[Release], *, before: bool, most: int, sample: tuple[int, ...]) -> list[Release]:
        """The passing ones of `way`, oldest first, after its change was bisected. What lies before it passes if
        `before`, and what lies after it does the opposite. The places of `sample`, from 1, are run first.
        """
        last = len(way) + 1
        while True:
            answers = {place: self.ran[release] for place, release in enumerate(way, 1) if release in self.ran}
            ends = {0: before, last: not before}
            history = History(last + 1, sample, {**answers, **ends}, frozenset(ends))
            places = next_runs(history, 1)[: max(0, most - len(self.ran))]
            if not places:
                return [release for release in way if self.ran.get(release)]
            for place in places:
                self._run(way[place - 1])

    def _run(self, release: Release) -> bool | None:
        answer = self.passes(release)
        self.tried += [answer] if answer else []
        self.ran[release] = answer.passes if answer else None
        return self.ran[release]


def _growing(size: int) -> Iterator[int]:
    """Distances from 1 to `size`, each twice the one before it; the last is `size`."""
    distance = 1
    while distance < size:
        yield distance
        distance *= 2
    if size:
        yield size


def _likeliest(item: Moved) -> int:
    return AXES.index(item.package)


def _urgency(cells: Sequence[CellChange]) -> int:
    return max(RANK.index(cell.effect) for cell in cells)


def _cause(side: CellSide) -> tuple[object, ...]:
    return side.verdict.issues or side.verdict.failing


def _asked(verdict: Verdict, selection: GateSelection) -> bool:
    cell = parse_cell(verdict.cell)
    return not cell.flow or cell.test in selection.cells


def _tried(version: str, verdicts: Sequence[Verdict], selection: GateSelection, beside: str) -> Tried | None:
    """The result on a release, which passes if every selected cell is healthy; None where the machine failed."""
    if any(health(verdict) is Health.UNKNOWN for verdict in verdicts):
        return None
    wrong = next((verdict for verdict in verdicts if health(verdict) in (Health.DEVIATES, Health.ABSENT)), None)
    if wrong is not None:
        return Tried(version, False, wrong.reason)
    missing = len(selection.cells) - len({verdict.cell for verdict in verdicts})
    if missing:
        return Tried(version, False, f"{missing} cells do not exist on it")
    return Tried(version, True, "", beside)
