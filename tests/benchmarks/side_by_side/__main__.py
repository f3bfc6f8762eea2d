"""Measure and print the table.

python -m side_by_side [--only a,b,c,d] [--stacks 8] [--jobs 2] [--flows F] [--quick] [--out build/bench]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import processor
from harness.errors import CompatError
from harness.matrix import ROOT, read_matrix
from harness.scheduling.machine import this_machine
from harness.scheduling.selection import On
from side_by_side.children import end_all, pinned, side_by_side, timed
from side_by_side.figures import Measured, Reported, markdown
from side_by_side.simulated import simulate
from side_by_side.ways import PYTHON, Place, spread

PARTS = "abcd"
"""(a) cold and warm matrix, (b) overhead over the floor, (c) nothing changed, (d) reports of simulated cells."""

SIZES = (100, 1_000, 10_000)
REPEATS = 3
"""Of what takes seconds; the median counts."""

RECORDED_STACK = "trl0.22"
"""Whose flows the recorder is held against, as in the README."""


@dataclasses.dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: where it writes, and what it has found so far."""

    out: Path
    seen: Measured
    begun: float
    failures: list[CompatError] = dataclasses.field(default_factory=list)

    def attempt(self, step: Callable[[], None]) -> None:
        """Take a step; if it fails say so, and go on: the other figures do not depend on it."""
        try:
            step()
        except CompatError as error:
            end_all()
            self.failures.append(error)
            self.note(f"failed: {error}")

    def note(self, what: str) -> None:
        """Say how far it has come, and write down what there is: an interrupted benchmark has its table too."""
        minutes, seconds = divmod(int(time.perf_counter() - self.begun), 60)
        print(f"[{minutes:3}:{seconds:02}] {what}", flush=True)
        (self.out / "table.md").write_text(markdown(self.seen), encoding="utf-8")
        (self.out / "measured.json").write_text(json.dumps(dataclasses.asdict(self.seen), indent=1), encoding="utf-8")


def main() -> int:
    asked = _arguments()
    machine = this_machine(0)
    named = f"{processor.name()}, {machine.cores} cores, Python {platform.python_version()}"
    bench = Benchmark(asked.out.resolve(), Measured(named, jobs=asked.jobs or machine.cores), time.perf_counter())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bench.out.mkdir(parents=True, exist_ok=True)
    # On the disk of the checkout, as the environments of its user are.
    with tempfile.TemporaryDirectory(prefix="work-", dir=bench.out, ignore_cleanup_errors=True) as work:
        try:
            if "d" in asked.only:
                bench.attempt(lambda: _reports(bench, Path(work)))
            if set(asked.only) & set("abc"):
                bench.attempt(lambda: _matrix(bench, Path(work), asked))
        except KeyboardInterrupt:
            end_all()
            bench.note("interrupted; this is what there is")
            return 130
        finally:
            print(f"\n{markdown(bench.seen)}\nAlso in {bench.out / 'table.md'}", flush=True)
    return 1 if bench.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("--only", type=lambda text: text.replace(",", ""), default=PARTS, metavar="a,b,c,d")
    parser.add_argument("--stacks", type=int, default=8, metavar="N", help="spread over the TRL axis")
    parser.add_argument("--jobs", type=int, help="stacks at once; as many as there are cores")
    parser.add_argument("--flows", default="", help="only these, as in compat run")
    parser.add_argument("--quick", action="store_true", help="two stacks and one flow, to try it out")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    asked = parser.parse_args()
    if set(asked.only) - set(PARTS) or not asked.only or asked.stacks < 1:
        parser.error(f"--only takes some of {', '.join(PARTS)}; --stacks 1 or more")
    if asked.quick:
        asked.stacks, asked.flows = 2, "sft-full"
    return asked


# ------------------------------------------------------------------------------------------------------------ reports


def _reports(bench: Benchmark, work: Path) -> None:
    """Part d: `compat report` of runs of growing size, each a process of its own."""
    for cells in SIZES:
        run = work / f"simulated-{cells}"
        simulate(run, cells)
        bench.seen.reports.append(_reported(bench, run, cells, "harness", "report"))
        bench.seen.comparisons.append(_reported(bench, run, cells, "side_by_side.compared"))
        shutil.rmtree(run)


def _reported(bench: Benchmark, run: Path, cells: int, module: str, *arguments: str) -> Reported:
    log = bench.out / "logs" / f"{module}-{cells}.log"
    environ = {**pinned(), "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "benchmarks")))}
    command = [sys.executable, "-m", module, *arguments, str(run)]
    took = [timed(command, log=log, cwd=ROOT, environ=environ, statuses=(0, 1)) for _ in range(REPEATS)]
    seconds = statistics.median(each.seconds for each in took)
    bench.note(f"{module} of {cells:,} cells: {seconds:.2f} s")
    cpu_seconds = statistics.median(each.cpu_seconds for each in took)
    return Reported(cells, seconds, cpu_seconds, max(each.peak_bytes for each in took))


# ------------------------------------------------------------------------------------------------------------- matrix


def _matrix(bench: Benchmark, work: Path, asked: argparse.Namespace) -> None:
    """Parts a, b and c, which share their runs."""
    seen, only = bench.seen, asked.only
    matrix = read_matrix()
    trl = [stack for stack in matrix.stacks if stack.package == "trl" and PYTHON in stack.pythons]
    place = Place(
        work, bench.out / "logs", tuple(On(stack, PYTHON) for stack in spread(trl, asked.stacks)), asked.flows
    )
    seen.stacks = tuple(on.stack.name for on in place.stacks)
    place.copy_checkout()
    for on in place.stacks:
        place.warm_caches(on)
        bench.note(f"{on.name}: packages in the caches")
    seen.cold = place.run("cold", "--jobs", str(seen.jobs)).seconds
    seen.cells = place.keep_plans()
    bench.note(f"compat run, nothing installed: {seen.cold:.0f} s")
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("c", lambda: _unchanged(bench, place)),
        ("ab", lambda: _warm(bench, place)),
        ("b", lambda: _recorder(bench, place, On(matrix.stack(RECORDED_STACK), PYTHON))),
        ("a", lambda: _plain(bench, place)),
    )
    for parts, step in steps:
        if set(parts) & set(only):
            bench.attempt(step)


def _unchanged(bench: Benchmark, place: Place) -> None:
    took = [place.run(f"unchanged-{number}").seconds for number in range(REPEATS)]
    bench.seen.unchanged = statistics.median(took)
    bench.note(f"compat run, nothing changed: {bench.seen.unchanged:.2f} s")


def _warm(bench: Benchmark, place: Place) -> None:
    seen = bench.seen
    seen.warm = place.run("warm", "--fresh", "--jobs", str(seen.jobs)).seconds
    bench.note(f"compat run --fresh: {seen.warm:.0f} s")
    seen.floor = side_by_side(_told(bench, place.straight_line, "straight line"), place.stacks, seen.jobs)
    bench.note(f"straight-line scripts, {seen.jobs} at once: {seen.floor:.0f} s")


def _recorder(bench: Benchmark, place: Place, on: On) -> None:
    bench.seen.recorder = place.overhead(on)
    bench.note(f"a recorded flow over one without a recorder: {bench.seen.recorder:.2f}")


def _plain(bench: Benchmark, place: Place) -> None:
    """The plain way: one after another, then as many at once as ours."""
    seen = bench.seen
    environments = tests = 0.0
    for on in place.stacks:
        environments += (made := place.plain_environment(on).seconds)
        tests += (ran := place.plain_tests(on).seconds)
        place.remove_plain(on)
        bench.note(f"plain way, {on.name}: environment {made:.0f} s, pytest {ran:.0f} s")
    seen.plain_cold, seen.plain_warm = environments + tests, tests

    def whole(on: On) -> None:
        place.plain_environment(on)
        place.plain_tests(on)

    seen.plain_parallel = side_by_side(_told(bench, whole, "plain way"), place.stacks, seen.jobs)
    bench.note(f"plain way, {seen.jobs} at once: {seen.plain_parallel:.0f} s")
    for on in place.stacks:
        place.remove_plain(on)


def _told(bench: Benchmark, work: Callable[[On], object], name: str) -> Callable[[On], None]:
    def told(on: On) -> None:
        start = time.perf_counter()
        work(on)
        bench.note(f"{name}, {on.name}: {time.perf_counter() - start:.0f} s beside others")

    return told


if __name__ == "__main__":
    sys.exit(main())
