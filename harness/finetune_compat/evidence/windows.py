"""Measures the edges of the ledger's windows by package: `compat windows`. Writes `matrices/windows.json`.

A window has an edge where its package gets another release. An edge is measured by package if the cell or script shows
the issue on the release inside, does not show it on the neighbouring release outside, and nothing else moved. The
neighbours are those of the package index, not those of the matrix: so such an edge leaves no release between. Where the
window of a script is open, the newest release must show the issue.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from finetune_compat.bisect.probe import Bench, Probe, Subject
from finetune_compat.checks.ledger import Issue, Ledger, Scripted, Signature, Way
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.windows_measured import WINDOWS, MeasuredEdge, Side, edge_name, read_windows
from finetune_compat.contract.catalog import DEEP_CELLS, Tier, cells_on
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import REPORTED, DeviceKind
from finetune_compat.contract.verdict import Kind, Outcome
from finetune_compat.evidence.scripted import ScriptBench
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.mixture import Two
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import condition
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks import index
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import Matrix, read_matrix


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of a window: two neighbouring releases of a package, of which the window contains one."""

    package: str
    inside: Version
    outside: Version | None
    """None: the window is open, and `inside` is the newest release."""

    @property
    def name(self) -> str:
        """For example `trl>=0.20.0` for a lower edge, `trl<0.23.1` for an upper one, `trl==1.16.0` for an open end."""
        return edge_name(self.package, str(self.inside), str(self.outside) if self.outside else None)


def windows_command(issues: Sequence[str], *, as_json: bool) -> int:
    """Measure the edges of some issues, or of all, write the file and print them. Exit code 1 if one does not hold; 3
    if one could not be measured.

    Raises:
        CompatError: there is no such issue, or the index does not answer.
    """
    path = places().the_checkout(f"matrices/{WINDOWS}") / "matrices" / WINDOWS
    found = []
    for measured in measure(chosen(load_ledger(), issues), read_matrix(), _say):
        found.append(measured)
        known = {one.key: one for one in read_windows(path)} | {measured.key: measured}
        write_atomically(path, as_text(known.values()))  # at once: a run of all edges takes an hour
        if not as_json:
            print("\n".join(_lines(measured)), flush=True)
    if as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
    if any(one.holds is False for one in found):
        return ExitCode.UNHEALTHY
    return ExitCode.COULD_NOT_TELL if any(one.holds is None for one in found) else ExitCode.HEALTHY


def chosen(ledger: Ledger, names: Sequence[str]) -> tuple[Issue, ...]:
    """The issues with these ids; all of them without names.

    Raises:
        UnknownName: there is no such issue.
    """
    known = {issue.id: issue for issue in ledger.issues}
    for name in names:
        if name not in known:
            raise UnknownName(f"there is no issue {name!r}", where="compat windows", todo=f"Name {', '.join(known)}.")
    return tuple(known[name] for name in names) or ledger.issues


def as_text(edges: Iterable[MeasuredEdge]) -> str:
    """The content of the file."""
    found = [dataclasses.asdict(one) for one in sorted(edges, key=lambda one: one.key)]
    for one in found:
        if one["script_sha256"] is None:
            del one["script_sha256"]
    return json.dumps(found, indent=1) + "\n"


def measure(issues: Sequence[Issue], matrix: Matrix, say: Callable[[str], None]) -> Iterator[MeasuredEdge]:
    """Measure every edge of the windows of some issues, of a signature in its first cell."""
    run = stack_run.this_run()
    for issue in issues:
        for place, signature in enumerate(issue.shows):
            cell, deep = cell_of(signature)
            for edge in edges_of(signature, matrix) if cell else ():
                bench = _bench(cell, deep=deep, say=say)
                say(f"{issue.id}, signature {place}, {edge.name}: {cell}")
                yield _Measuring(issue, place, signature, edge, bench, matrix).measured()
        for place, scripted in enumerate(issue.scripts, start=len(issue.shows)):
            script = ScriptBench(issue, scripted, run)
            for edge in (*edges_of(scripted, matrix), *open_ends(issue, scripted, matrix)):
                say(f"{issue.id}, script {scripted.script}, {edge.name}")
                yield _Measuring(issue, place, scripted, edge, script, matrix).measured()


def cell_of(signature: Signature) -> tuple[str, bool]:
    """The first cell of a CPU that shows a signature, without its stack, and whether the deep tier measures it. Cells
    without quantization come first, because every release runs them on a CPU.
    """
    deep = condition(signature.check, None).tier is not Tier.FULL
    cells = DEEP_CELLS if deep else tuple((flow.name, variant) for flow, variant in cells_on(DeviceKind.CPU))
    anywhere = dataclasses.replace(signature, windows={})
    fitting = [cell for cell in cells if anywhere.takes_in(*cell, DeviceKind.CPU, {})]
    flow, variant = min(fitting, key=lambda cell: cell[1].precision.quantized, default=("", None))
    return (f"{flow}[{variant}]" if flow else ""), deep


def edges_of(way: Way, matrix: Matrix) -> Iterator[Edge]:
    """The edges of windows among the final releases of the index that the matrix can resolve."""
    for package, text in way.windows.items():
        if package in matrix.packages:
            yield from edges_among(package, text, _releases(package))


def open_ends(issue: Issue, scripted: Scripted, matrix: Matrix) -> Iterator[Edge]:
    """The newest release of each package whose window contains it; without windows, of the package that the issue's
    code imports.
    """
    packages = scripted.windows or {issue.library: ""}
    for package, text in packages.items():
        newest = _releases(package)[-1]
        if package in matrix.packages and SpecifierSet(text).contains(newest):
            yield Edge(package, newest, None)


def _releases(package: str) -> list[Version]:
    """The final releases of the index, the oldest first."""
    return [one.version for one in index.releases(package) if not one.version.is_prerelease]


def edges_among(package: str, window: str, releases: Sequence[Version]) -> Iterator[Edge]:
    """The edges of a window among releases, the oldest first."""
    inside = [SpecifierSet(window).contains(version) for version in releases]
    for place in range(1, len(releases)):
        if inside[place - 1] != inside[place]:
            pair = (releases[place - 1], releases[place])
            yield Edge(package, *(pair if inside[place - 1] else reversed(pair)))


def _bench(cell: str, *, deep: bool, say: Callable[[str], None]) -> Bench:
    tier = Tier.DEEP_ONLY if deep else Tier.FULL
    options = RunOptions(device=DeviceChoice.CPU, tier=tier)
    asked = condition("verdict", None)
    return Bench(stack_run.this_run(), load_ledger(), Subject(cell=cell), asked, DeviceKind.CPU, (), options, say)


@dataclass(frozen=True, slots=True)
class _Measuring:
    """One edge that is measured."""

    issue: Issue
    place: int
    way: Way
    edge: Edge
    bench: Bench | ScriptBench
    matrix: Matrix

    def measured(self) -> MeasuredEdge:
        """Run the cell on both sides: first with only the package moved, else each release with its own companions."""
        inner = self._inside()
        inside = self.bench.probe(inner)
        outside = self._outside(inner, self.edge.outside) if self.edge.outside else None
        return MeasuredEdge(
            issue=self.issue.id,
            shows=self.place,
            package=self.edge.package,
            edge=self.edge.name,
            cell=str(self.bench.subject),
            inside=_side(self.edge.inside, inside),
            outside=_side(self.edge.outside, outside) if outside and self.edge.outside else None,
            moved=tuple(_moved(inside, outside, self.edge.package)) if outside else (),
            holds=self._holds(inside, outside),
            measured=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            script_sha256=self.bench.sha256 if isinstance(self.bench, ScriptBench) else None,
        )

    def _outside(self, inner: Resolved, version: Version) -> Probe:
        outer = self._resolved(version)
        alone = self.bench.probe(self._alone(inner, outer))
        return alone if _ran(alone) else self.bench.probe(outer)

    def _inside(self) -> Resolved:
        """The release inside, with companions that are inside of the other windows."""
        found = self._resolved(self.edge.inside)
        if isinstance(found.lock, Unsolvable):
            return found
        there = found.lock.requirements
        others = [
            f"{package}=={self._nearest(package, window, there.get(package))}"
            for package, window in self.way.windows.items()
            if package != self.edge.package and not SpecifierSet(window).contains(there.get(package, "0"))
        ]
        return self._pinned((f"{self.edge.package}=={self.edge.inside}", *others)) if others else found

    def _nearest(self, package: str, window: str, version: str | None) -> Version:
        """The release of a package in a window that is nearest to a version."""
        fitting = [one for one in _releases(package) if SpecifierSet(window).contains(one)]
        at = Version(version or "0")
        return next((one for one in fitting if one > at), fitting[-1])

    def _resolved(self, version: Version) -> Resolved:
        return self._pinned((f"{self.edge.package}=={version}",))

    def _pinned(self, pins: tuple[str, ...]) -> Resolved:
        side = read_side(pins, "compat windows", self.matrix)
        return resolve(side, " ".join(pins), self.matrix, DeviceKind.CPU, None, lambda _: None)

    def _alone(self, inner: Resolved, outer: Resolved) -> Resolved:
        try:
            return Two(self.matrix, DeviceKind.CPU, inner, outer).moved((self.edge.package,))
        except CompatError:
            return outer

    def _holds(self, inside: Probe, outside: Probe | None) -> bool | None:
        """Whether the cell or script is as listed inside, as listed outside, and the issue is listed inside only."""
        one = inside.verdict
        if one is None or not _ran(inside):
            return None
        listed_inside = one.outcome is Outcome.XFAIL and self.issue.id in one.issues
        if outside is None:
            return listed_inside
        other = outside.verdict
        if other is None or not _ran(outside):
            return None
        if other.kind is Kind.PLATFORM and self.issue.kind is not Kind.PLATFORM:
            return None  # the machine ends the cell before the issue could show
        return listed_inside and other.outcome in (Outcome.PASS, Outcome.XFAIL)


def _ran(probe: Probe) -> bool:
    return probe.verdict is not None and probe.verdict.outcome not in (Outcome.INFRASTRUCTURE, Outcome.UNINSTALLABLE)


def _side(version: Version, probe: Probe) -> Side:
    versions = {name: probe.versions[name] for name in REPORTED if name in probe.versions}
    reason = probe.verdict.reason if probe.verdict else probe.measured.shown
    return Side(version=str(version), stack=probe.stack, versions=versions, shows=reason)


def _moved(inside: Probe, outside: Probe, package: str) -> Iterator[str]:
    """Other packages whose versions differ, all of the lock."""
    for name in sorted({*inside.versions, *outside.versions} - {package}):
        if inside.versions.get(name) != outside.versions.get(name):
            yield f"{name} {inside.versions.get(name, '-')} -> {outside.versions.get(name, '-')}"


def _lines(one: MeasuredEdge) -> Iterator[str]:
    yield f"{one.issue}, way {one.shows}, {one.cell}"
    yield f"  {one.edge}: {one.answer}"
    yield f"    {one.package} {one.inside.version}: {one.inside.shows}"
    if one.outside:
        yield f"    {one.package} {one.outside.version}: {one.outside.shows}"
    if one.moved:
        yield f"    also moved: {', '.join(one.moved)}"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
