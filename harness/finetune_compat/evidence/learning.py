"""Error rates of the learning test from the sweeps over seeds, as a Markdown page and a drawing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from finetune_compat.checks import CHECKS
from finetune_compat.checks.case import LUCK
from finetune_compat.checks.objectives import MINIMUM_FALL
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.catalog import Handicap
from finetune_compat.evidence.calibration import HEALTHY, RunsOfKind, Sweep, read_sweeps
from finetune_compat.evidence.strips import drawing
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.report.markdown import table

STORIES = {
    HEALTHY: "healthy: not handicapped",
    Handicap.FROZEN: "dead: every step is undone",
    Handicap.WANDERING: "dead: every step keeps its size, but in a random direction",
    Handicap.HUNDREDTH: "nearly dead",
    Handicap.ONE_LAYER: "nearly dead: steps are undone, except in the first of two layers",
    Handicap.ONE_CLASS: "nearly dead: steps are undone, except in `lora_B` of `q_proj`",
}


INTRODUCTION = """\
Cheap cells run healthy and handicapped in five ways, with many seeds. Each seed sets the weights of the model, the
data and the adapters. All checks judge every run, and no two sweeps share a seed. Written by `-- --seeds`; the JSON
files in this folder have the numbers by seed.\
"""

LINES = f"""\
E802 requires a fall of {MINIMUM_FALL:.0%}. E804 requires a fall that luck ({LUCK:.0%}) and the run's own null cannot
explain. Eval loss alone does not distinguish one live layer from two. G401 and W701 do, from gradients and weights.\
"""


def publish(learning: Path | None = None) -> None:
    """Write the page and the drawing of all stored sweeps.

    Raises:
        RecordsError: a stored sweep cannot be read.
    """
    learning = learning or places().learning
    sweeps = read_sweeps(learning)
    write_atomically(learning / "learning.md", page(sweeps))
    write_atomically(learning / "learning.svg", drawing(sweeps))


def describe(sweep: Sweep) -> str:
    """The error rates of one sweep, for a terminal."""
    return "\n".join(f"{name}: {rate}" for name, rate in _rates([sweep]))


def page(sweeps: Sequence[Sweep]) -> str:
    """The page, in Markdown."""
    sections = [
        "# How often is the learning test wrong?",
        INTRODUCTION,
        table(("of all sweeps", "wrong, of runs"), _rates(sweeps)),
        table(_HEAD_OF_SWEEPS, [_beside_others(sweep) for sweep in sweeps]),
        "![Fall of eval loss by seed](learning.svg)",
        LINES,
        *_not_swept(sweeps),
        *(_sweep(sweep) for sweep in sweeps),
    ]
    return "\n\n".join(sections) + "\n"


def _not_swept(sweeps: Sequence[Sweep]) -> list[str]:
    """The checks of today that judged no sweep, as a sentence; empty if there are none."""
    new = [check.code for check in CHECKS if not all(check.code in sweep.judged_by for sweep in sweeps)]
    return [f"Added since, so their false alarms over seeds are not known: {', '.join(new)}."] if new else []


_HEAD_OF_SWEEPS = (
    "sweep",
    "seeds",
    "healthy called dead",
    "dead called healthy",
    "nearly dead called healthy",
    "healthy lose at least",
    "random steps move at most",
)


def _beside_others(sweep: Sweep) -> tuple[str, ...]:
    rates = [f"{rate.wrong} of {rate.trials}" for rate in (sweep.false_alarms, sweep.misses, sweep.rounded)]
    luck = max(map(abs, sweep.kinds[Handicap.WANDERING].falls))
    margins = (f"{min(sweep.kinds[HEALTHY].falls):.2%}", f"{luck:.2%}")
    return f"`{sweep.cell}`", f"{sweep.seeds[0]} to {sweep.seeds[1]}", *rates, *margins


def _rates(sweeps: Sequence[Sweep]) -> list[tuple[str, str]]:
    return [
        ("healthy called dead", str(_sum([sweep.false_alarms for sweep in sweeps]))),
        ("dead called healthy", str(_sum([sweep.misses for sweep in sweeps]))),
        ("nearly dead called healthy", str(_sum([sweep.rounded for sweep in sweeps]))),
    ]


def _sum(rates: Sequence[Rate]) -> Rate:
    return Rate(sum(rate.wrong for rate in rates), sum(rate.trials for rate in rates))


def _sweep(sweep: Sweep) -> str:
    first, last = sweep.seeds
    versions = ", ".join(f"{name} {version}" for name, version in sorted(sweep.versions.items()))
    head = ("flow", "what it is", "eval loss falls by", "all checks", "E802 and E804 alone")
    parts = [
        f"## {sweep.cell}",
        f"{sweep.steps} steps, seeds {first} to {last}, {sweep.seconds:.0f} s in all.",
        f"Judged by {', '.join(sweep.judged_by)}.",
        f"{versions}, Python {sweep.python}, {sweep.device}; harness {sweep.harness_version}, from {sweep.measured}.",
        table(head, [_row(name, kind) for name, kind in sweep.kinds.items()]),
        "Failing checks of the first seed:",
        "\n".join(f"- {name}: {kind.example}" for name, kind in sweep.kinds.items()),
    ]
    return "\n\n".join(parts)


def _row(name: str, kind: RunsOfKind) -> tuple[str, ...]:
    roots = [f"{codes} in {number}" for codes, number in kind.roots]
    passed = [f"pass in {kind.passed}"] if kind.passed else []
    runs = len(kind.learning)
    return name, STORIES[name], _falls(kind.falls), ", ".join([*passed, *roots]), f"{kind.learned} of {runs} learn"


def _falls(falls: Sequence[float]) -> str:
    return f"{min(falls):.2%} to {max(falls):.2%}, median {statistics.median(falls):.2%}"
