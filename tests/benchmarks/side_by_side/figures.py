"""Measurements, targets, and the tables made of them: seconds and ratios. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from finetune_compat.machine.units import counted

MEGABYTE = 1_000_000

MOST_OVER_FLOOR = 1.25
LEAST_FRESH = 3.0
LEAST_UNCHANGED = 100.0
UNCHANGED_S = 2.0
REPORT_S = 5.0
REPORT_BYTES = 500 * MEGABYTE
LOOKUP_S = 0.5
RECORDER = 1.15
WATCH: Mapping[str, float] = {"tiny": 1.2, "66M": 1.02}  # by size of the model
"""Targets that the project set itself; the others were promised."""

LINEAR = 1.25
"""Limit of the cost of a cell in the second half of 10,000, relative to one in the first, for growth that is called
linear: medians of the same work differed by up to a tenth.
"""

MOST_OTHERS = 0.1
"""Cores that other processes may use while a part is measured."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the measurements."""

    processor: str
    cores: int
    memory: int
    """Bytes of memory."""

    def __str__(self) -> str:
        return f"{self.processor}, {self.cores} cores, {self.memory / 2**30:.0f} GiB of memory, no GPU used"


@dataclass(frozen=True, slots=True)
class Made:
    """Time and commit of a measurement."""

    day: str
    """UTC."""
    commit: str
    """Commit of the harness, with `+` if files differed from it."""
    versions: str
    others: float
    """Mean number of cores that other processes used."""
    took_s: float


@dataclass(slots=True)
class Matrix:
    """A spread of stacks with all flows, this harness compared with the plain way. Seconds; None is not measured."""

    stacks: tuple[str, ...] = ()
    """Stacks measured with new environments."""
    cells: int = 0
    again: tuple[str, ...] = ()
    """Stacks of these measured again with existing environments: all, unless the benchmark was interrupted."""
    again_cells: int = 0
    flows: str = ""
    """Only these flows, separated by commas; empty: all."""
    jobs: int = 1
    """Parallel processes of this harness and of the parallel plain way."""
    cold: float | None = None
    """`compat run` without environments and without stored results."""
    warm: float | None = None
    """`compat run --fresh` with existing environments: every cell runs."""
    unchanged: float | None = None
    """`compat run` with every result stored."""
    floor: float | None = None
    """Straight-line scripts in the harness's environments, `jobs` in parallel."""
    plain_cold: float | None = None
    """The plain way, one stack after another."""
    plain_warm: float | None = None
    """The same with existing environments: only pytest."""
    parallel_cold: float | None = None
    """The plain way, `jobs` stacks in parallel."""
    parallel_warm: float | None = None

    def with_more(self, part: Matrix) -> Matrix:
        """Add one comparison of a part: every way of it with new or with existing environments. `unchanged` is one
        command for all stacks.
        """
        seconds = ("cold", "warm", "floor", "plain_cold", "plain_warm", "parallel_cold", "parallel_warm")
        more = {name: getattr(part, name) for name in seconds if getattr(part, name) is not None}
        return replace(
            self,
            stacks=self.stacks + part.stacks,
            cells=self.cells + part.cells,
            again=self.again + part.again,
            again_cells=self.again_cells + part.again_cells,
            **{name: (getattr(self, name) or 0.0) + found for name, found in more.items()},
        )


@dataclass(slots=True)
class Axis:
    """The TRL axis."""

    stacks: int = 0
    """Measured stacks."""
    flows: str = ""
    """As in `Matrix`."""
    cells: int = 0
    jobs: int = 1
    warm: float | None = None
    floor: float | None = None
    of: int = 0
    """Number of stacks of the whole axis; 0: the measured ones."""

    @property
    def whole(self) -> str:
        """The measured share of the axis, in words."""
        return f"{self.stacks} of the {self.of} stacks of the" if self.of > self.stacks else "the whole"


@dataclass(slots=True)
class Whole:
    """`compat run` over all axes with every cell stored: simulated observations, environments of files only."""

    stacks: int = 0
    cells: int = 0
    first: float | None = None
    """Every stored cell is judged again."""
    unchanged: float | None = None


@dataclass(frozen=True, slots=True)
class Reported:
    """Cost of one report of simulated cells."""

    cells: int
    seconds: float
    cpu_seconds: float
    """Processor time, which other processes change less."""
    peak_bytes: int
    """Maximum memory of its processes together, with shared memory counted once."""


@dataclass(slots=True)
class Reports:
    """Reports of simulated runs, the smallest first."""

    reports: list[Reported] = field(default_factory=list)
    comparisons: list[Reported] = field(default_factory=list)


@dataclass(slots=True)
class Lookup:
    """Lookup of addresses in a store with as many observations."""

    addresses: int = 0
    looked_up: float | None = None
    read: float | None = None
    """Every observation is also opened and verified."""


@dataclass(slots=True)
class Recorder:
    """A recorded flow compared with the same flow without a recorder: ratio of medians, in one process, in turn."""

    stack: str = ""
    ratio: float | None = None


@dataclass(slots=True)
class Watch:
    """A script under `compat watch` compared with the script alone."""

    stack: str = ""
    pairs: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By size of the model: processor seconds of the script alone and watched, one pair after the other."""

    def ratio(self, size: str) -> float | None:
        """Median over the pairs; None if that size was not measured."""
        found = self.pairs.get(size)
        return statistics.median(watched / alone for alone, watched in found) if found else None


@dataclass(slots=True)
class Session:
    """The parts of one session, in order."""

    stack: str = ""
    cells: int = 0
    parts: list[tuple[str, float]] = field(default_factory=list)


@dataclass(slots=True)
class Measured:
    """All measurements of a machine."""

    machine: Machine
    made: dict[str, Made] = field(default_factory=dict)
    """By the name of the part."""
    matrix: Matrix = field(default_factory=Matrix)
    axis: Axis = field(default_factory=Axis)
    whole: Whole = field(default_factory=Whole)
    reports: Reports = field(default_factory=Reports)
    lookup: Lookup = field(default_factory=Lookup)
    recorder: Recorder = field(default_factory=Recorder)
    session: Session = field(default_factory=Session)
    watch: Watch = field(default_factory=Watch)


# ------------------------------------------------------------------------------------------------------------- targets


@dataclass(frozen=True, slots=True)
class Target:
    """One figure and its target."""

    what: str
    asked: str
    """Empty: no target, shown for information."""
    measured: str
    holds: bool | None
    """None: not measured, or no target."""
    own: bool = False
    """Whether it was not promised."""


def targets(seen: Measured) -> tuple[Target, ...]:
    """Every figure with a target, measured or not, and the figures shown for information."""
    matrix, axis, whole = seen.matrix, seen.axis, seen.whole
    at_once, again = f"{matrix.jobs} stacks at once", counted(len(matrix.again), "stack")
    return (
        _at_most(
            f"{axis.whole} TRL axis with {_flows(axis.flows)}, over its floor", axis.warm, axis.floor, MOST_OVER_FLOOR
        ),
        _under("`compat run` with nothing changed, all axes", whole.unchanged, UNCHANGED_S),
        _at_least("fresh environments: the plain way", matrix.plain_cold, matrix.cold, LEAST_FRESH),
        _beside("fresh environments: the plain way, " + at_once, matrix.parallel_cold, matrix.cold),
        _at_least("nothing changed: the plain way again", matrix.plain_warm, matrix.unchanged, LEAST_UNCHANGED),
        _beside("nothing changed: the plain way again, " + at_once, matrix.parallel_warm, matrix.unchanged),
        _beside(f"every cell of {again}, over straight-line scripts", matrix.warm, matrix.floor),
        *_report_targets(seen.reports.reports),
        _under(f"look-up of {seen.lookup.addresses:,} addresses", seen.lookup.looked_up, LOOKUP_S),
        _recorder_target(seen.recorder),
        *(_watch_target(seen.watch, size) for size in WATCH),
    )


def missed(seen: Measured) -> tuple[Target, ...]:
    """Promised targets that are missed."""
    return tuple(target for target in targets(seen) if target.holds is False and not target.own)


def _at_most(what: str, took: float | None, own: float | None, limit: float) -> Target:
    asked = f"at most {limit:g}"
    if took is None or not own:
        return Target(what, asked, "", None)
    return Target(what, asked, f"{ratio(took, own)} ({_seconds(took)} s over {_seconds(own)} s)", took <= limit * own)


def _at_least(what: str, took: float | None, own: float | None, limit: float) -> Target:
    asked = f"at least {limit:g} times ours"
    if took is None or not own:
        return Target(what, asked, "", None)
    return Target(what, asked, f"{ratio(took, own)} ({_seconds(took)} s over {_seconds(own)} s)", took >= limit * own)


def _beside(what: str, took: float | None, own: float | None) -> Target:
    shown = "" if took is None or not own else f"{ratio(took, own)} ({_seconds(took)} s over {_seconds(own)} s)"
    return Target(what, "", shown, None)


def _under(what: str, took: float | None, limit: float) -> Target:
    asked = f"under {limit:g} s"
    return Target(what, asked, "" if took is None else f"{took:.2f} s", None if took is None else took < limit)


def _report_targets(reports: Sequence[Reported]) -> tuple[Target, ...]:
    last = reports[-1] if reports else None
    size = f"report of {last.cells:,} cells" if last else "report of 10,000 cells"
    held = None if last is None else last.peak_bytes
    grown = growth(reports)
    return (
        _under(size, None if last is None else last.seconds, REPORT_S),
        Target(
            f"{size}: memory",
            f"under {REPORT_BYTES // MEGABYTE} MB",
            "" if held is None else f"{_megabytes(held)} MB",
            None if held is None else held < REPORT_BYTES,
        ),
        Target(
            f"{size}: later cells over earlier ones",
            f"at most {LINEAR:g}: linear",
            "" if grown is None else f"time {grown[0]:.2f}, memory {grown[1]:.2f}",
            None if grown is None else max(grown) <= LINEAR,
        ),
    )


def growth(reports: Sequence[Reported]) -> tuple[float, float] | None:
    """Processor time and memory of a cell in the second half, relative to one in the first; None if one of them is
    missing. At most 1 is linear or better.
    """
    half = [report for report in reports if 2 * report.cells == reports[-1].cells]
    if len(reports) < 3 or not half:
        return None
    first, middle, last = reports[0], half[0], reports[-1]

    def slope(a: Reported, b: Reported) -> tuple[float, float]:
        cells = b.cells - a.cells
        return (b.cpu_seconds - a.cpu_seconds) / cells, (b.peak_bytes - a.peak_bytes) / cells

    (time, memory), (later_time, later_memory) = slope(first, middle), slope(middle, last)
    return max(later_time, 0) / time, max(later_memory, 0) / memory


def _recorder_target(seen: Recorder) -> Target:
    what = "a recorded flow over the same flow without a recorder"
    holds = None if seen.ratio is None else seen.ratio <= RECORDER
    shown = "" if seen.ratio is None else f"{seen.ratio:.2f}"
    return Target(what, f"at most {RECORDER:g} (our own)", shown, holds, own=True)


def _watch_target(seen: Watch, size: str) -> Target:
    ratio, limit = seen.ratio(size), WATCH[size]
    what = f"a watched script over the script alone, {size} model"
    shown = "" if ratio is None else f"{ratio:.3f} (median of {len(seen.pairs[size])} pairs)"
    return Target(what, f"at most {limit:g} (our own)", shown, None if ratio is None else ratio <= limit, own=True)


# -------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class Section:
    """One table."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(seen: Measured) -> tuple[Section, ...]:
    """The tables of all measurements so far, the targets first."""
    matrix = seen.matrix
    one_by_one, at_once = "plain way, one stack after another", f"plain way, {matrix.jobs} stacks at once"
    floor = f"floor: one import and the same flows as a script, {matrix.jobs} at once"
    found = (
        _targets(seen),
        _ways(
            "Nothing installed",
            ("compat run", matrix.cold),
            {one_by_one: matrix.plain_cold, at_once: matrix.parallel_cold},
        ),
        _ways(
            "Environments there, every cell run",
            ("compat run --fresh", matrix.warm),
            {one_by_one: matrix.plain_warm, at_once: matrix.parallel_warm, floor: matrix.floor},
        ),
        _ways(
            "Nothing changed",
            ("compat run", matrix.unchanged),
            {
                f"{one_by_one}, environments made anew": matrix.plain_cold if matrix.again == matrix.stacks else None,
                f"{one_by_one}, environments kept": matrix.plain_warm,
                f"{at_once}, environments kept": matrix.parallel_warm,
            },
        ),
        _whole(seen.whole),
        _session(seen.session),
        _growth("`compat report` on simulated cells", seen.reports.reports),
        _growth("Comparison and report of simulated cells", seen.reports.comparisons),
        _lookup(seen.lookup),
        _made(seen),
    )
    return tuple(section for section in found if section is not None)


def _targets(seen: Measured) -> Section:
    said = {True: "yes", False: "NO", None: ""}
    rows = [
        (target.what, target.asked, target.measured or "not measured", said[target.holds]) for target in targets(seen)
    ]
    return Section("Targets", ("what", "asked", "measured", "holds"), tuple(rows))


def _ways(title: str, ours: tuple[str, float | None], others: Mapping[str, float | None]) -> Section | None:
    """Seconds of each way, and multiples of this harness's."""
    name, own = ours
    if own is None:
        return None
    rows = [(name, _seconds(own), "1")]
    rows += [(other, _seconds(took), ratio(took, own)) for other, took in others.items() if took is not None]
    return Section(title, ("way", "seconds", f"times `{name}`"), tuple(rows))


def _whole(seen: Whole) -> Section | None:
    if seen.first is None:
        return None
    rows = [("every stored cell judged anew", _seconds(seen.first))]
    rows += [] if seen.unchanged is None else [("nothing changed", _seconds(seen.unchanged))]
    title = f"`compat run`, all axes: {seen.cells:,} cells on {seen.stacks} stacks, simulated observations"
    return Section(title, ("what", "seconds"), tuple(rows))


def _session(seen: Session) -> Section | None:
    if not seen.parts:
        return None
    whole = sum(seconds for _, seconds in seen.parts)
    rows = [(what, f"{seconds:.2f}", f"{seconds / whole:.1%}") for what, seconds in (*seen.parts, ("all of it", whole))]
    return Section(f"One session: {seen.cells} cells of {seen.stack}", ("what", "seconds", "share"), tuple(rows))


def _growth(title: str, reports: Sequence[Reported]) -> Section | None:
    """Time and memory by size, and the cost of each additional cell: constant if they grow linearly."""
    if not reports:
        return None
    rows = [(*_sized(reports[0]), "", "")]
    for before, now in itertools.pairwise(reports):
        more = now.cells - before.cells
        rows.append(
            (
                *_sized(now),
                f"{(now.cpu_seconds - before.cpu_seconds) / more * 1000:.2f}",
                f"{(now.peak_bytes - before.peak_bytes) / more / 1000:.0f}",
            )
        )
    heads = ("cells", "seconds", "of a processor", "peak MB", "ms a further cell", "kB a further cell")
    return Section(title, heads, tuple(rows))


def _lookup(seen: Lookup) -> Section | None:
    if seen.looked_up is None:
        return None
    rows = [(f"{seen.addresses:,} addresses looked up", _seconds(seen.looked_up))]
    rows += [] if seen.read is None else [("all of their observations read and proven", _seconds(seen.read))]
    return Section("The store", ("what", "seconds"), tuple(rows))


def _made(seen: Measured) -> Section | None:
    rows = [
        (name, made.day, made.commit, _minutes(made.took_s), f"{made.others:.2f}", made.versions)
        for name, made in seen.made.items()
    ]
    heads = ("part", "day", "harness", "took", "cores of others", "versions")
    return Section("Measured", heads, tuple(rows)) if rows else None


def _sized(seen: Reported) -> tuple[str, ...]:
    return f"{seen.cells:,}", _seconds(seen.seconds), _seconds(seen.cpu_seconds), _megabytes(seen.peak_bytes)


def ratio(took: float, own: float) -> str:
    """Multiples of `own`, with at most three digits."""
    times = took / own
    return f"{times:.0f}" if times >= 100 else f"{times:.3g}"


def _seconds(took: float) -> str:
    return f"{took:,.0f}" if took >= 10 else f"{took:.2f}"


def _minutes(took: float) -> str:
    return f"{took / 60:.0f} min" if took >= 90 else f"{took:.0f} s"


def _megabytes(amount: int) -> str:
    return f"{amount / MEGABYTE:.0f}"


# ------------------------------------------------------------------------------------------------------------- wording


def circumstances(seen: Measured) -> list[str]:
    """Sentences about the machine, the commit and other load."""
    lines = [f"{seen.machine}."]
    if seen.matrix.stacks:
        names = ", ".join(seen.matrix.stacks)
        lines.append(
            f"The plain way beside ours: {len(seen.matrix.stacks)} stacks ({names}) with {_flows(seen.matrix.flows)}, "
            f"{seen.matrix.cells:,} cells."
        )
        if seen.matrix.again != seen.matrix.stacks:
            lines.append(
                f"With environments there, and with nothing changed, {len(seen.matrix.again)} of them "
                f"({', '.join(seen.matrix.again)}), {seen.matrix.again_cells:,} cells: it was interrupted."
            )
    if seen.axis.stacks:
        lines.append(
            f"The TRL axis: {seen.axis.stacks} stacks with {_flows(seen.axis.flows)}, {seen.axis.cells:,} cells, "
            f"{seen.axis.jobs} at once."
        )
    busy = [name for name, made in seen.made.items() if made.others > MOST_OTHERS]
    if busy:
        lines.append(f"Measured beside other work on the machine, and to be measured again: {', '.join(busy)}.")
    return lines


def _flows(names: str) -> str:
    return f"the flows {' and '.join(names.split(','))} alone" if names else "all flows"


def markdown(seen: Measured) -> str:
    """All tables, as they are committed."""
    parts = [
        "# Benchmarks",
        "Made by `nox -s bench`; tests/benchmarks/side_by_side says how.",
        "\n".join(circumstances(seen)),
    ]
    for section in sections(seen):
        rule = ["---"] * len(section.heads)
        lines = [f"| {' | '.join(cells)} |" for cells in (section.heads, rule, *section.rows)]
        parts.append("\n".join([f"## {section.title}", "", *lines]))
    return "\n\n".join(parts) + "\n"


def plain(seen: Measured) -> str:
    """All tables, for a terminal or a log."""
    parts = ["\n".join(circumstances(seen))]
    for section in sections(seen):
        rows = [tuple(cell.replace("`", "") for cell in row) for row in (section.heads, *section.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        parts.append("\n".join([section.title.replace("`", ""), *(f"  {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"
