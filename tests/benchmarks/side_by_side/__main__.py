"""Measure, and print what was measured beside what was asked.

    nox -s bench                              every part; 1 if a target is missed
    nox -s bench -- --only reports,lookup     these parts; the others stay in the table as they were measured before
    nox -s bench -- --only none               the table again
    nox -s bench -- --quick                   two stacks and one flow in build/bench/quick, to see that all of it works

| part     | what is measured                                                       | on 2 cores, about |
|----------|------------------------------------------------------------------------|-------------------|
| reports  | report, and comparison, of 100 to 10,000 simulated cells               | 4 min             |
| lookup   | 10,000 addresses looked up in a store of as many observations          | 1 min             |
| whole    | nothing changed, all axes: simulated observations fill a store         | 1 min             |
| session  | where the time of one session goes                                     | 6 min             |
| recorder | a recorded flow beside the same flow without a recorder                | 4 min             |
| watch    | a script under `compat watch` beside the script alone, two sizes       | 5 min             |
| matrix   | 8 stacks, all flows: ours, the floor, and the plain way, each cold and | 100 min           |
|          | warm, one after another and as many at once as ours, in two parts      |                   |
| axis     | the whole TRL axis, all flows, over its floor, in five parts           | 90 min            |

The table is in reports/benchmarks/<machine>.md, the figures beside it in <machine>.json: parts of several days are one
table, each with its day and the commit of the harness. A part begun beside other work is marked.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from finetune_compat.contract.errors import CompatError
from finetune_compat.machine import cpu
from finetune_compat.machine.capacity import this_machine
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import PACKAGE
from finetune_compat.machine.provenance import commit, short
from finetune_compat.machine.units import counted
from finetune_compat.run.selection import On
from finetune_compat.stacks.ask import stack_python
from finetune_compat.stacks.matrix import Stack, read_matrix
from finetune_compat.watch.host import of_stack
from pydantic import TypeAdapter

from side_by_side.children import end_all, pinned, sampled, side_by_side, timed
from side_by_side.figures import (
    Axis,
    Lookup,
    Machine,
    Made,
    Matrix,
    Measured,
    Recorder,
    Reported,
    Reports,
    Session,
    Watch,
    Whole,
    markdown,
    missed,
    plain,
)
from side_by_side.session import parts
from side_by_side.simulated import simulate
from side_by_side.watching import PAIRS, pairs
from side_by_side.ways import PYTHON, Place, of_flows, spread

ROOT = PACKAGE.parents[1]

COMMITTED = ROOT / "reports" / "benchmarks"
BUILD = ROOT / "build" / "bench"
"""Logs, and everything used for measuring, until it is removed."""

SIZES = (100, 1_000, 5_000, 10_000)
ADDRESSES = 10_000
AXIS_PARTS = 5
MATRIX_PARTS = 2

REPEATS = 3
"""Repetitions of measurements that take seconds; the median counts."""

RECORDED_STACK = "trl0.22"
"""The stack whose flows the recorder is compared on, and whose session is measured, as in the README."""

WATCHED_STACK = "trl1.16"
"""The stack of the watched script: the newest, on which watches have most to see."""

_MEASURED = TypeAdapter(Measured)


class Benchmark:
    """One benchmark: the request, the output directory, and the results so far."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.jobs: int = asked.jobs or this_machine(0).cores
        self.begun = time.perf_counter()
        self.failures: list[CompatError] = []
        machine = this_one()
        self.file = (asked.out or (BUILD / "quick" if asked.quick else COMMITTED)) / f"{slug(machine)}.json"
        self.seen = read(self.file, machine)
        self.commit = short(commit())
        self.logs = BUILD / "logs"

    def part(self, name: str, measure: Callable[[Benchmark, Path], None]) -> None:
        """Measure a part. A failure is printed, and the other parts continue: they do not depend on it."""
        before, start = busy(), time.perf_counter()
        day = datetime.datetime.now(datetime.UTC).date().isoformat()
        self.note(f"{name} begins")
        # On the disk of the checkout, as a user's environments are.
        with tempfile.TemporaryDirectory(prefix="work-", dir=BUILD, ignore_cleanup_errors=True) as work:
            try:
                measure(self, Path(work))
            except CompatError as error:
                self.failures.append(error)
                self.note(f"{name} failed: {error}")
            finally:
                end_all()
                took = time.perf_counter() - start
                self.seen.made[name] = Made(day, self.commit, versions(), round((busy() - before) / took, 2), took)
                self.write()

    def note(self, what: str) -> None:
        """Print progress, and write the results so far: an interrupted benchmark has a table too."""
        minutes, seconds = divmod(int(time.perf_counter() - self.begun), 60)
        print(f"[{minutes:3}:{seconds:02}] {what}", flush=True)
        self.write()

    def write(self) -> None:
        write_atomically(self.file, _MEASURED.dump_json(self.seen, indent=1).decode() + "\n")
        write_atomically(self.file.with_suffix(".md"), markdown(self.seen))

    def place(self, work: Path, stacks: Sequence[Stack]) -> Place:
        """A copy of the checkout for `stacks`."""
        found = tuple(On(stack, PYTHON) for stack in stacks)
        place = Place(work, self.logs, found, self.asked.flows, self.note)
        place.copy_checkout()
        return place


def main() -> int:
    asked = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    BUILD.mkdir(parents=True, exist_ok=True)
    bench = Benchmark(asked)
    try:
        for name, measure in PARTS.items():
            if name in asked.only:
                bench.part(name, measure)
    except KeyboardInterrupt:
        end_all()
        bench.note("interrupted; this is what there is")
        return 130
    print(f"\n{plain(bench.seen)}\nAlso in {bench.file.with_suffix('.md')}", flush=True)
    for target in missed(bench.seen):
        print(f"missed: {target.what}: {target.measured}, asked for {target.asked}")
    return 1 if bench.failures or missed(bench.seen) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="nox -s bench --", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), metavar="PART,...", help=f"{', '.join(PARTS)}, or none")
    parser.add_argument("--stacks", type=int, default=8, metavar="N", help="of the matrix, spread over the TRL axis")
    parser.add_argument("--jobs", type=int, help="stacks at once; as many as there are cores")
    parser.add_argument("--flows", default="", help="only these, as in compat run")
    parser.add_argument("--quick", action="store_true", help="two stacks and one flow, to try it out")
    parser.add_argument("--out", type=Path, metavar="DIR", help="instead of reports/benchmarks")
    asked = parser.parse_args()
    asked.only = [] if asked.only == "none" else asked.only.split(",")
    if set(asked.only) - set(PARTS) or asked.stacks < 1:
        parser.error(f"--only takes some of {', '.join(PARTS)}, or none; --stacks 1 or more")
    if asked.quick:
        asked.stacks, asked.flows = 2, "sft-full"
    return asked


# --------------------------------------------------------------------------------------------- what it is measured on


def this_one() -> Machine:
    """Describe this machine."""
    found = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    return Machine(cpu.name(), this_machine(0).cores, int(found[1]) * 1024 if found else 0)


def slug(machine: Machine) -> str:
    """Its name as a file name."""
    words = re.sub(r"\((r|tm)\)|processor|cpu", "", machine.processor.lower())
    return "-".join([*re.findall(r"[a-z0-9.]+", words), f"{machine.cores}-cores"])


def busy() -> float:
    """Core seconds used by other processes and by other virtual machines so far."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, irq, soft, steal = map(int, fields)
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    everybody = (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")
    return everybody - sum(each.ru_utime + each.ru_stime for each in own)


def versions() -> str:
    """Versions of the tools that take part."""
    found = {name: importlib.metadata.version(name) for name in ("nox", "uv", "pip", "pydantic")}
    told = {"Python": platform.python_version(), **found, "torch": read_matrix().torch}
    return ", ".join(f"{name} {version}" for name, version in told.items())


def read(file: Path, machine: Machine) -> Measured:
    """Read earlier measurements of this machine.

    Raises:

    CompatError: they cannot be read.
    """
    if not file.exists():
        return Measured(machine)
    try:
        return _MEASURED.validate_json(file.read_bytes())
    except ValueError as error:
        raise CompatError(
            "these are no figures of this benchmark",
            where=str(file),
            meaning=f"It was edited, or written by another version: {str(error).splitlines()[0]}",
            todo="Remove it; what it held is to be measured again.",
        ) from None


# -------------------------------------------------------------------------------------------------- of simulated cells


def _reports(bench: Benchmark, work: Path) -> None:
    """`compat report` of runs of growing size, each in another process."""
    bench.seen.reports = Reports()
    for cells in SIZES:
        run = work / f"simulated-{cells}"
        simulate(run, cells)
        bench.seen.reports.reports.append(_reported(bench, run, cells, "harness", "report"))
        bench.seen.reports.comparisons.append(_reported(bench, run, cells, "side_by_side.compared"))
        shutil.rmtree(run)


def _reported(bench: Benchmark, run: Path, cells: int, module: str, *arguments: str) -> Reported:
    log = bench.logs / f"{module}-{cells}.log"
    command = [sys.executable, "-m", module, *arguments, str(run)]
    took = [timed(command, log=log, cwd=ROOT, environ=_environ(ROOT), statuses=(0, 1)) for _ in range(REPEATS)]
    with sampled() as peak:  # separately, because sampling takes time; repeated, because a sample may miss the maximum
        for _ in range(REPEATS):
            timed(command, log=log, cwd=ROOT, environ=_environ(ROOT), statuses=(0, 1))
    seconds = statistics.median(each.seconds for each in took)
    bench.note(f"{module} of {cells:,} cells: {seconds:.2f} s")
    return Reported(cells, seconds, statistics.median(each.cpu_seconds for each in took), peak[0])


def _lookup(bench: Benchmark, work: Path) -> None:
    log = bench.logs / "lookup.log"
    command = [sys.executable, "-m", "side_by_side.stored", "look", str(work / "store"), str(ADDRESSES)]
    timed(command, log=log, cwd=ROOT, environ=_environ(ROOT))
    looked_up, read_all = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
    bench.seen.lookup = Lookup(ADDRESSES, looked_up, read_all)
    bench.note(f"{ADDRESSES:,} addresses: {looked_up:.3f} s")


def _whole(bench: Benchmark, work: Path) -> None:
    """`compat run` of everything in a copy of the checkout in which all results are stored."""
    place = bench.place(work, ())
    environ = {**place.environ, **_environ(place.checkout)}
    fill, log = [sys.executable, "-m", "side_by_side.stored", "fill"], bench.logs / "fill.log"
    timed(fill, log=log, cwd=place.checkout, environ=environ)
    cells = int(log.read_text(encoding="utf-8").splitlines()[-1])
    bench.note(f"a store of {cells:,} simulated observations")
    command = [sys.executable, "-m", "finetune_compat", "run", "--device", "cpu"]
    took = []
    for number in range(REPEATS + 1):
        log = bench.logs / f"whole-{number}.log"
        took.append(timed(command, log=log, cwd=place.checkout, environ=environ, statuses=(0, 1)).seconds)
        first = log.read_text(encoding="utf-8").splitlines()[0]
        if "nothing is run" not in first:
            raise CompatError(
                f"cells were run: {first}",
                where=str(log),
                meaning="The committed baseline does not have every cell of today.",
                todo="Keep a run of the whole matrix (`compat keep`), and measure again.",
            )
    stacks = int(first.split(" cells on ")[1].split()[0])
    bench.seen.whole = Whole(stacks, cells, took[0], statistics.median(took[1:]))
    bench.note(f"compat run, nothing changed, all axes: {bench.seen.whole.unchanged:.2f} s")


def _environ(root: Path) -> dict[str, str]:
    return {**pinned(), "PYTHONPATH": os.pathsep.join((str(root / "harness"), str(root / "tests" / "benchmarks")))}


# -------------------------------------------------------------------------------------------------------- of one stack


def _session(bench: Benchmark, work: Path) -> None:
    """The parts of a session whose environment and bytecode exist."""
    place = bench.place(work, [read_matrix().stack(RECORDED_STACK)])
    [on] = place.stacks
    place.run("session-before")
    cells = place.keep_plans()
    place.straight_line(on)
    flows = of_flows((bench.logs / f"{on.name}-straight-line.log").read_text(encoding="utf-8"))
    bench.note(f"{cells} flows of {on.name} as a script: {flows:.1f} s")
    bench.seen.session = Session(on.name, cells, parts(place.session(on), flows))
    bench.note(f"one session: {sum(seconds for _, seconds in bench.seen.session.parts):.1f} s")


def _recorder(bench: Benchmark, work: Path) -> None:
    place = bench.place(work, [read_matrix().stack(RECORDED_STACK)])
    [on] = place.stacks
    bench.seen.recorder = Recorder(on.name, place.overhead(on))
    bench.note(f"a recorded flow over one without a recorder: {bench.seen.recorder.ratio:.2f}")


def _watch(bench: Benchmark, _: Path) -> None:
    interpreter = of_stack(stack_python(read_matrix(), WATCHED_STACK))
    wanted = dict.fromkeys(PAIRS, 1) if bench.asked.quick else PAIRS
    bench.seen.watch = Watch(interpreter.name, pairs(interpreter, bench.logs, bench.note, wanted))


# ------------------------------------------------------------------------------------------------------------- of many


def _axis(bench: Benchmark, work: Path) -> None:
    """The whole axis compared with its floor, in parts that are each spread over it: a change of the machine's speed
    affects both, and an interrupted benchmark has measured both on the same stacks.
    """
    whole = bench.place(work, _trl()[: bench.asked.stacks] if bench.asked.quick else _trl())
    seen = bench.seen.axis = Axis(0, bench.asked.flows, jobs=bench.jobs, of=len(whole.stacks))
    jobs = "--jobs", str(bench.jobs)
    for number in range(AXIS_PARTS):
        place = dataclasses.replace(whole, stacks=whole.stacks[number::AXIS_PARTS])
        if not place.stacks:
            break
        name = f"axis-{number + 1}"
        # Environments and bytecode exist before either is measured.
        took = place.run(f"{name}-before", *jobs, "-k", "sft-full and qwen2-full-gc").seconds
        bench.note(f"{len(place.stacks)} environments, each used once: {took:.0f} s")
        warm, cells = place.run(name, "--fresh", *jobs).seconds, place.keep_plans()
        bench.note(f"compat run --fresh of {cells:,} cells: {warm:.0f} s")
        floor = side_by_side(_told(bench, place.straight_line, "straight line"), place.stacks, bench.jobs)
        seen.stacks, seen.cells = seen.stacks + len(place.stacks), seen.cells + cells
        seen.warm, seen.floor = (seen.warm or 0) + warm, (seen.floor or 0) + floor
        bench.note(f"straight-line scripts, {bench.jobs} at once: {floor:.0f} s; {seen.stacks} of {seen.of} stacks")


def _matrix(bench: Benchmark, work: Path) -> None:
    """A spread of stacks in every way, in parts that are each spread over the axis, for the reasons of `_axis`."""
    whole = bench.place(work, spread(_trl(), bench.asked.stacks))
    for on in whole.stacks:
        whole.warm_caches(on)
        bench.note(f"{on.name}: packages in the caches")
    bench.seen.matrix = Matrix(flows=bench.asked.flows, jobs=bench.jobs)
    measured: tuple[On, ...] = ()
    for number in range(MATRIX_PARTS):
        place = dataclasses.replace(whole, stacks=whole.stacks[number::MATRIX_PARTS])
        if not place.stacks:
            break
        for compared in _every_way(bench, place, f"matrix-{number + 1}"):
            bench.seen.matrix = bench.seen.matrix.with_more(compared)
            bench.write()
        measured = (*measured, *place.stacks)
        again = dataclasses.replace(whole, stacks=measured)
        unchanged = statistics.median(again.run(f"unchanged-{n + 1}").seconds for n in range(REPEATS))
        bench.seen.matrix = dataclasses.replace(bench.seen.matrix, unchanged=unchanged)
        bench.note(f"compat run of {counted(len(measured), 'stack')}, nothing changed: {unchanged:.2f} s")


def _every_way(bench: Benchmark, place: Place, name: str) -> Iterator[Matrix]:
    """Measure this harness, the floor, and the plain way in sequence and in parallel: first all with new environments,
    then all with existing ones.
    """
    jobs, names = bench.jobs, tuple(on.stack.name for on in place.stacks)

    def remove_plain() -> None:
        for on in place.stacks:
            place.remove_plain(on)

    def plain_way(name: str, jobs: int, *, new: bool) -> float:
        def run_one(on: On) -> None:
            if new:
                place.plain_environment(on)
            place.plain_tests(on, name)

        took = side_by_side(_told(bench, run_one, f"plain way {name}"), place.stacks, jobs)
        bench.note(f"plain way, {jobs} at once, environments {'made' if new else 'kept'}: {took:.0f} s")
        return took

    cold = place.run(f"{name}-cold", "--jobs", str(jobs)).seconds
    cells = place.keep_plans()
    bench.note(f"compat run of {cells:,} cells, nothing installed: {cold:.0f} s")
    plain_cold = plain_way("one-by-one-cold", 1, new=True)
    remove_plain()
    parallel_cold = plain_way("at-once-cold", jobs, new=True)
    yield Matrix(stacks=names, cells=cells, cold=cold, plain_cold=plain_cold, parallel_cold=parallel_cold)
    warm = place.run(f"{name}-warm", "--fresh", "--jobs", str(jobs)).seconds
    bench.note(f"compat run --fresh: {warm:.0f} s")
    floor = side_by_side(_told(bench, place.straight_line, "straight line"), place.stacks, jobs)
    bench.note(f"straight-line scripts, {jobs} at once: {floor:.0f} s")
    parallel_warm = plain_way("at-once-warm", jobs, new=False)
    plain_warm = plain_way("one-by-one-warm", 1, new=False)
    remove_plain()
    yield Matrix(
        again=names,
        again_cells=cells,
        warm=warm,
        floor=floor,
        plain_warm=plain_warm,
        parallel_warm=parallel_warm,
    )


def _told(bench: Benchmark, work: Callable[[On], object], name: str) -> Callable[[On], None]:
    def told(on: On) -> None:
        start = time.perf_counter()
        work(on)
        bench.note(f"{name}, {on.name}: {time.perf_counter() - start:.0f} s")

    return told


def _trl() -> tuple[Stack, ...]:
    return tuple(stack for stack in read_matrix().stacks if stack.package == "trl" and PYTHON in stack.pythons)


PARTS: dict[str, Callable[[Benchmark, Path], None]] = {
    "reports": _reports,
    "lookup": _lookup,
    "whole": _whole,
    "session": _session,
    "recorder": _recorder,
    "watch": _watch,
    "matrix": _matrix,
    "axis": _axis,
}
"""The shortest part first."""

if __name__ == "__main__":
    sys.exit(main())
