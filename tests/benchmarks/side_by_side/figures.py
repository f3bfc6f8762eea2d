"""What was measured, and the table it makes: seconds beside seconds, as ratios. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Reported:
    """What one report of simulated cells took."""

    cells: int
    seconds: float
    cpu_seconds: float
    """Of its process: what others do on the machine takes less part in it."""
    peak_bytes: int
    """Most memory its process held."""


@dataclass(slots=True)
class Measured:
    """Seconds on the clock, as far as the benchmark has come; None is not measured, or not yet."""

    machine: str
    stacks: tuple[str, ...] = ()
    cells: int = 0
    """Of these stacks, all flows."""
    jobs: int = 1
    """Processes side by side, ours and those of the parallel plain way alike."""
    cold: float | None = None
    """`compat run` without environments and without stored results."""
    warm: float | None = None
    """`compat run --fresh`: environments there, every cell run."""
    unchanged: float | None = None
    """`compat run` with every result stored."""
    plain_cold: float | None = None
    """The plain way, one stack after another."""
    plain_warm: float | None = None
    """Of that, what pytest took: the environments are there."""
    plain_parallel: float | None = None
    """The plain way, `jobs` stacks at once."""
    floor: float | None = None
    """Straight-line scripts in our environments, `jobs` at once."""
    recorder: float | None = None
    """A recorded flow over the same flow without a recorder: ratio of medians, one process, in turn."""
    reports: list[Reported] = field(default_factory=list)
    comparisons: list[Reported] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Section:
    """One table."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(seen: Measured) -> tuple[Section, ...]:
    """The tables of what was measured so far."""
    one_by_one, at_once = "plain way, one stack after another", f"plain way, {seen.jobs} stacks at once"
    found = (
        _beside(
            "Nothing installed",
            ("compat run", seen.cold),
            {one_by_one: seen.plain_cold, at_once: seen.plain_parallel},
        ),
        _beside(
            "Environments there, every cell run",
            ("compat run --fresh", seen.warm),
            {"pytest, one stack after another": seen.plain_warm, _floor(seen.jobs): seen.floor},
        ),
        _beside(
            "Nothing changed",
            ("compat run", seen.unchanged),
            {
                one_by_one: seen.plain_cold,
                at_once: seen.plain_parallel,
                "pytest alone, environments kept": seen.plain_warm,
            },
        ),
        _overhead(seen),
        _growth("`compat report` on simulated cells", seen.reports),
        _growth("Comparison and report of simulated cells", seen.comparisons),
    )
    return tuple(section for section in found if section is not None)


def _floor(jobs: int) -> str:
    return f"floor: one import and the same flows as a script, {jobs} at once"


def _beside(title: str, ours: tuple[str, float | None], others: Mapping[str, float | None]) -> Section | None:
    """Seconds of each way, and how many times ours they are."""
    name, own = ours
    if own is None:
        return None
    rows = [(name, _seconds(own), "1")]
    rows += [(other, _seconds(took), ratio(took, own)) for other, took in others.items() if took is not None]
    return Section(title, ("way", "seconds", f"times `{name}`"), tuple(rows))


def _overhead(seen: Measured) -> Section | None:
    rows = []
    if seen.warm is not None and seen.floor:
        rows.append(("`compat run --fresh` over its floor", ratio(seen.warm, seen.floor), "1.25"))
    if seen.recorder is not None:
        rows.append(("a recorded flow over the same flow without a recorder", f"{seen.recorder:.2f}", "1.15"))
    return Section("What the harness adds", ("what", "ratio", "target, at most"), tuple(rows)) if rows else None


def _growth(title: str, reports: Sequence[Reported]) -> Section | None:
    """Time and memory by size, and what each cell beyond the size before adds: the same, if they grow in a line."""
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


def _sized(seen: Reported) -> tuple[str, ...]:
    return f"{seen.cells:,}", _seconds(seen.seconds), _seconds(seen.cpu_seconds), _megabytes(seen.peak_bytes)


def ratio(took: float, own: float) -> str:
    """How many times `own` it took, to three digits at most."""
    times = took / own
    return f"{times:.0f}" if times >= 100 else f"{times:.3g}"


def _seconds(took: float) -> str:
    return f"{took:.0f}" if took >= 10 else f"{took:.2f}"


def _megabytes(amount: int) -> str:
    return f"{amount / MEGABYTE:.0f}"


def markdown(seen: Measured) -> str:
    """All tables, with what they were measured on and of."""
    told = [f"Measured on {seen.machine}."]
    if seen.stacks:
        told[0] += f" {len(seen.stacks)} stacks ({', '.join(seen.stacks)}), {seen.cells:,} cells."
    for section in sections(seen):
        rule = ["---"] * len(section.heads)
        lines = [f"| {' | '.join(cells)} |" for cells in (section.heads, rule, *section.rows)]
        told.append("\n".join([f"**{section.title}**", "", *lines]))
    return "\n\n".join(told) + "\n"
