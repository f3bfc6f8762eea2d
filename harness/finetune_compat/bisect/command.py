"""`compat bisect`: since when. Run releases of one package until every change of the result is between neighbours."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.bisect.answer import BisectAnswer, Edge, ReleaseResult
from finetune_compat.bisect.known import locked_places, stored_results
from finetune_compat.bisect.lines import Changed, changed_functions, installed
from finetune_compat.bisect.local_modules import local_modules
from finetune_compat.bisect.probe import Bench, Probe, subject
from finetune_compat.bisect.render import issue_text, terminal
from finetune_compat.bisect.reproduction import reproduction
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError, ExitCode, Interrupted
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import REPORTED
from finetune_compat.contract.redaction import redact_words
from finetune_compat.gate.inputs import read_side
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import condition, levels
from finetune_compat.history.search import Boundary, History, bound, next_runs, runs_left, sampled
from finetune_compat.machine.capacity import CELL_BYTES, Machine, Share, at_once, this_machine
from finetune_compat.machine.console import silent_stdout
from finetune_compat.machine.gpus import kind_of
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks import index
from finetune_compat.stacks.environments import environment_of
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.watch.host import STEPS, ChangesOutside, noted_signals

SAMPLE = 16
"""Default number of releases of the first sample."""

MOST = 4
"""Most releases that run at the same time. N of them divide those of a boundary into N + 1 parts: more gain little."""


@dataclass(frozen=True, slots=True)
class BisectRequest:
    """The options of one call. None or an empty value means that the option was not given."""

    package: str
    flow: str | None = None
    cell: str | None = None
    script: str | None = None
    arguments: tuple[str, ...] = ()
    condition: str = "verdict"
    tolerance: float | None = None
    releases: str = ""
    sample: int = SAMPLE
    device: DeviceChoice | None = None
    python: str | None = None
    steps: int | None = None

    @property
    def command(self) -> str:
        """The command line of the call, without secrets."""
        words = ["compat", "bisect"]
        given = (
            ("--flow", self.flow),
            ("--cell", self.cell),
            ("--script", self.script),
            ("--package", self.package),
            ("--condition", self.condition if self.condition != "verdict" else None),
            ("--tolerance", self.tolerance),
            ("--releases", self.releases or None),
            ("--sample", self.sample if self.sample != SAMPLE else None),
            ("--device", self.device),
            ("--python", self.python),
            ("--steps", self.steps),
        )
        for option, value in given:
            words += [option, str(value)] if value is not None else []
        words += ["--", *self.arguments] if self.arguments else []
        return shlex.join(redact_words(words))


def bisect_command(request: BisectRequest, *, as_json: bool, issue: bool) -> int:
    """Run the search and print its answer. Exit code 0 if something changed, else 3.

    Raises:
        CompatError: an option is invalid, or the index does not answer.
    """
    with silent_stdout():
        answer = bisect(request)
    if as_json:
        print(json.dumps(asdict(answer), indent=1))
    else:
        print(_issue(request, answer) if issue else terminal(answer))
    return ExitCode.HEALTHY if answer.edges else ExitCode.COULD_NOT_TELL


def bisect(request: BisectRequest) -> BisectAnswer:
    """Find the releases at which the result changes.

    Raises:
        CompatError: an option is invalid, or the index does not answer.
    """
    begun = time.monotonic()
    asked = condition(request.condition, request.tolerance)
    what = subject(request.flow, request.cell, request.script, request.arguments, request.steps or STEPS, asked.tier)
    matrix, ledger, package = read_matrix(), load_ledger(), canonicalize_name(request.package)
    there, older = chosen_releases(matrix, package, request.releases)
    options = RunOptions(device=request.device or DeviceChoice.AUTO, tier=asked.tier)
    gpus = stack_run.chosen_gpus(options, "compat bisect")
    run = stack_run.this_run()
    threads = shared(this_machine(0), asked_threads()).threads if what.script and not gpus else None
    bench = Bench(run, ledger, what, asked, kind_of(gpus), gpus, options, _print, threads=threads)
    line = _Line(matrix, package, there, bench, request.python)
    walk = _Walk(line, request.sample)
    walk.search()
    return walk.answer(request.command, older, time.monotonic() - begun)


def chosen_releases(matrix: Matrix, package: str, wanted: str) -> tuple[tuple[Release, ...], str]:
    """The final releases to search, the oldest first, and which were left out as too old.

    Without `wanted`, from the oldest release that the matrix has a row for, or else as of the matrix's earliest day.

    Raises:
        CompatError: the matrix does not resolve the package, `wanted` is invalid, or fewer than two releases match.
    """
    if package not in matrix.packages:
        raise CompatError(
            f"{package!r} is no package that the matrix resolves",
            where="--package",
            todo=f"Name one of {', '.join(matrix.packages)}.",
        )
    final = [release for release in index.releases(package) if not release.version.is_prerelease]
    rows = [Version(stack.pin) for stack in matrix.stacks if stack.package == package]
    if wanted:
        try:
            specifier = SpecifierSet(wanted)
        except InvalidSpecifier:
            raise CompatError(
                f"{wanted!r} selects no versions", where="--releases", todo="Example: --releases '>=0.19,<0.24'."
            ) from None
        found = [release for release in final if release.version in specifier]
    elif rows:
        found = [release for release in final if release.version >= min(rows)]
    else:
        found = [release for release in final if release.day >= matrix.floor]
    if len(found) < 2:  # noqa: PLR2004 - a change needs two
        raise CompatError(
            f"{len(found)} releases of {package} match, and a change needs two",
            where=f"--releases {wanted}",
            todo=f"The releases are {final[0].version} to {final[-1].version}." if final else "It has no releases.",
        )
    old = [release for release in final if release.version < found[0].version]
    return tuple(found), f"{old[0].version} to {old[-1].version}" if old else ""


@dataclass(frozen=True, slots=True)
class _Line:
    """The releases, and how each becomes a set of versions."""

    matrix: Matrix
    package: str
    releases: Sequence[Release]
    bench: Bench
    python: str | None

    def resolved(self, place: int) -> Resolved:
        """A release with its companions: those of its row, else those of its day."""
        asked = f"{self.package}=={self.releases[place].version}"
        side = read_side((asked,), "--package", self.matrix, self.python)
        return resolve(side, asked, self.matrix, self.bench.device, self.python, lambda _: None)

    def probe(self, place: int, signals: Sequence[int] | None = None) -> Probe:
        """Run a release, as `Bench.probe` does."""
        return self.bench.probe(self.resolved(place), signals)

    def stored(self) -> dict[int, Probe]:
        """The stored results, by place."""
        locked = locked_places(self.matrix, self.package, [release.version for release in self.releases])
        return stored_results(self.resolved, locked, self.bench)


class _Walk:
    """The search, with what was found so far."""

    def __init__(self, line: _Line, sample: int) -> None:
        self.line = line
        self.probes: dict[int, Probe] = {}
        self.free: frozenset[int] = frozenset()
        minors = [release.version.release[:2] for release in line.releases]
        self.sample = sampled(minors, sample)
        self.used: int | None = None
        """Bytes of memory of the largest process so far; None before a script has run."""
        self.width = 1 if line.bench.gpus else shared(this_machine(0), line.bench.threads).jobs
        """How many releases run at the same time."""

    @property
    def history(self) -> History[int]:
        """What is known, with results as numbers: equal results have the same number."""
        found = self.probes
        states: dict[object, int] = {}
        tolerance = self.line.bench.condition.tolerance
        numbers = {place: found[place].measured.number for place in sorted(found)}
        known = {place: number for place, number in numbers.items() if number is not None}
        if tolerance is not None:
            answers: dict[int, int | None] = dict.fromkeys(found)
            answers |= dict(zip(known, levels(tuple(known.values()), tolerance), strict=True))
        else:
            answers = {
                place: None if (state := found[place].measured.state) is None else states.setdefault(state, len(states))
                for place in sorted(found)
            }
        return History(len(self.line.releases), self.sample, answers, self.free)

    def search(self) -> None:
        """Read what is stored, then run until nothing is left to run."""
        bench = self.line.bench
        stored = self.line.stored()
        self.probes, self.free = dict(stored), frozenset(stored)
        bench.progress(
            f"{len(self.line.releases)} releases of {self.line.package}, {len(stored)} results stored; "
            f"sample of {len(self.sample)}, then at most {bound(len(self.line.releases))} runs for each change"
        )
        while places := next_runs(self.history, self.width):
            for place, probe in self._run(places):
                self.probes[place] = probe
                self._say(place)

    def _run(self, places: Sequence[int]) -> Iterator[tuple[int, Probe]]:
        """Run releases, `width` at a time, and give each when it has ended."""
        bench, left = self.line.bench, list(places)
        if bench.subject.script is not None and self.width > 1 and self.used is None:
            # The first run of a script is alone: it says how much memory each of them needs.
            while left and self.used is None:
                yield left[0], self._alone(left.pop(0))
            self.width = min(self.width, at_once(this_machine(0), cell_bytes=max(CELL_BYTES, self.used or 0)))
        if self.width > 1:
            alone: list[int] = []
            yield from self._parallel(left, alone)
            left = alone
        yield from ((place, self._alone(place)) for place in sorted(left))

    def _alone(self, place: int) -> Probe:
        """Run a release in the main thread."""
        probe = self.line.probe(place)
        if probe.ran:
            self.used = most_memory()
        return probe

    def _parallel(self, places: Sequence[int], alone: list[int]) -> Iterator[tuple[int, Probe]]:
        """Run releases in threads. Those that must run alone are put into `alone`, and later ones run so too.

        Raises:
            Interrupted: a signal arrived. All runs have ended.
        """
        script = self.line.bench.subject.script is not None
        with ExitStack() as held:
            # A thread cannot handle signals. The processes of cells end with this one, those of a script do not.
            signals = held.enter_context(noted_signals()) if script else None
            pool = held.enter_context(ThreadPoolExecutor(self.width))
            running = {pool.submit(self.line.probe, place, signals): place for place in places}
            try:
                for done in as_completed(running):
                    if signals:
                        raise Interrupted(signals[0])
                    if done.cancelled():
                        alone.append(running[done])
                        continue
                    try:
                        yield running[done], done.result()
                    except ChangesOutside as found:
                        alone.append(running[done])
                        self._one_at_a_time(found)
                        _cancel(running)
            finally:
                _cancel(running)

    def _one_at_a_time(self, found: ChangesOutside) -> None:
        if self.width > 1:
            self.width = 1
            self.line.bench.progress(f"{found.what}: it runs on one release at a time")

    def _say(self, place: int) -> None:
        probe, left = self.probes[place], runs_left(self.history)
        version = self.line.releases[place].version
        head = "skipped: " if probe.measured.state is None else ""
        self.line.bench.progress(
            f"{self.line.package} {version}: {head}{probe.measured.shown} (about {left} runs left)"
        )

    def answer(self, command: str, older: str, seconds: float) -> BisectAnswer:
        """The answer, when the search has ended."""
        history, bench = self.history, self.line.bench
        ran = [place for place, probe in self.probes.items() if probe.ran]
        return BisectAnswer(
            package=self.line.package,
            subject=str(bench.subject),
            condition=bench.condition.text,
            command=command,
            releases=history.size,
            bound=bound(history.size),
            edges=tuple(self._edge(one) for one in history.boundaries),
            stretches=tuple(self._stretch(first, last) for first, last in history.stretches),
            results=tuple(self._result(place) for place in sorted(self.probes)),
            not_looked_at=tuple(self._version(place) for place in history.unseen),
            older=older,
            runs=len(ran),
            sample_runs=sum(place in self.sample for place in ran),
            stored=len(self.free),
            seconds=round(seconds, 1),
            versions={self._version(place): self._reported(probe) for place, probe in sorted(self.probes.items())},
            run=str(bench.run),
        )

    def _version(self, place: int) -> str:
        return str(self.line.releases[place].version)

    def _bad(self, place: int) -> bool | None:
        measured = self.probes[place].measured
        if measured.number is None:
            return measured.bad if measured.state is not None else None
        return self.history.answers[place] != 0  # a number is good on the level of the oldest release

    def _result(self, place: int) -> ReleaseResult:
        probe = self.probes[place]
        return ReleaseResult(self._version(place), self._bad(place), probe.measured.shown, probe.ran)

    def _stretch(self, first: int, last: int) -> tuple[str, str, bool | None, str]:
        return self._version(first), self._version(last), self._bad(first), self.probes[first].measured.shown

    def _reported(self, probe: Probe) -> dict[str, str]:
        return {name: probe.versions[name] for name in REPORTED if name in probe.versions}

    def _edge(self, one: Boundary) -> Edge:
        before, after = self.probes[one.before], self.probes[one.after]
        given = sorted({*self.sample, *self.free})
        low = max((place for place in given if place <= one.before), default=0)
        high = min((place for place in given if place >= one.after), default=len(self.line.releases) - 1)
        return Edge(
            before=self._result(one.before),
            after=self._result(one.after),
            skipped=tuple(map(self._version, one.skipped)),
            unseen=tuple(map(self._version, one.unseen)),
            moved=moved_between(before, after, self.line.package),
            runs=sum(low < place < high and probe.ran for place, probe in self.probes.items() if place not in given),
            lines=lines_between(self._with_python(one.before), self._with_python(one.after), self._bad(one.after)),
        )

    def _with_python(self, place: int) -> Probe:
        """The probe of a release with its environment, which a stored result has not needed so far."""
        probe, lock = self.probes[place], self.line.resolved(place).lock
        if probe.python is not None or isinstance(lock, Unsolvable):
            return probe
        with contextlib.suppress(CompatError):  # without an environment there are no sources to compare
            return replace(probe, python=environment_of(lock)[0])
        return probe


def _cancel(futures: Iterable[Future[Probe]]) -> None:
    """Cancel those that have not begun."""
    for future in futures:
        future.cancel()


def shared(machine: Machine, threads: int | None) -> Share:
    """How many releases run at the same time on the CPU, and the threads of each.

    Args:
        machine: its cores and memory.
        threads: threads of each; None for cells, which have one, and for a script that may have any number.
    """
    jobs = max(1, min(at_once(machine), MOST, machine.cores // (threads or 1)))
    return Share(jobs, threads or max(1, machine.cores // jobs))


def asked_threads() -> int | None:
    """The threads that OMP_NUM_THREADS asks for; None if it asks for none."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else None


def most_memory() -> int:
    """Bytes of memory of the largest process that this one, or a child of it, has waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def moved_between(before: Probe, after: Probe, package: str = "") -> tuple[str, ...]:
    """The reported packages whose versions differ, without `package`."""
    return tuple(
        f"{name} {before.versions.get(name, '-')} -> {after.versions.get(name, '-')}"
        for name in REPORTED
        if name != package and before.versions.get(name) != after.versions.get(name)
    )


def lines_between(before: Probe, after: Probe, bad_after: bool | None) -> tuple[Changed, ...]:  # noqa: FBT001
    """The functions on the chains of the bad one of two probes that differ from the good one."""
    good, bad = (before, after) if bad_after else (after, before)
    if good.python is None or bad.python is None or bad.seen is None:
        return ()
    return changed_functions(installed(good.python, good.versions), installed(bad.python, bad.versions), bad.seen)


def _issue(request: BisectRequest, answer: BisectAnswer) -> str:
    """The text for an upstream issue, with the user's own script and its modules, or with the flow as a script."""
    if request.script is None:
        return issue_text(answer, reproduction(answer.subject))
    script = Path(request.script)
    if script.suffix != ".py":
        return issue_text(answer)
    modules = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in local_modules(script).items()}
    return issue_text(answer, script.read_text(encoding="utf-8"), modules)


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
