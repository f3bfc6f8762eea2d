"""What the sweeps over seeds say of the learning test, as a page for people and as a drawing."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from finetune_compat.checks.case import LUCK
from finetune_compat.checks.objectives import MINIMUM_FALL
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.catalog import Handicap
from finetune_compat.evidence.calibration import HEALTHY, Kind, Sweep, read_kept
from finetune_compat.evidence.strips import drawing
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places

STORIES = {
    HEALTHY: "nothing is in its way",
    Handicap.FROZEN: "dead: every step is undone",
    Handicap.WANDERING: "dead: every step has the size it would have, in random directions",
    Handicap.HUNDREDTH: "nearly dead",
    Handicap.ONE_LAYER: "nearly dead: steps are undone but in the first of two layers",
    Handicap.ONE_CLASS: "nearly dead: steps are undone but in `lora_B` of `q_proj`",
}


INTRODUCTION = """\
Cheap cells are run healthy and handicapped in five ways, each with its own seed for the weights of the model, the data
and the adapters, and judged by all checks. No two sweeps share a seed. Written by `-- --seeds`; the numbers by seed are
in the JSON files beside this page.\
"""

LINES = f"""\
E802 asks for a fall of {MINIMUM_FALL:.0%}, E804 for one that luck ({LUCK:.0%}) and the run's own null cannot explain.
Eval loss alone does not tell one live layer from two: G401 and W701 do, from gradients and weights.\
"""


def publish(learning: Path | None = None) -> None:
    """Write the page and the drawing of all kept sweeps.

    Raises:
        RecordsError: a kept sweep cannot be read.
    """
    learning = learning or places().learning
    sweeps = read_kept(learning)
    write_atomically(learning / "learning.md", page(sweeps))
    write_atomically(learning / "learning.svg", drawing(sweeps))


def told(sweep: Sweep) -> str:
    """The rates of one sweep, for a terminal."""
    return "\n".join(f"{name}: {rate}" for name, rate in _rates([sweep]))


def page(sweeps: Sequence[Sweep]) -> str:
    """The page, in Markdown."""
    told = [
        "# How often is the learning test wrong?",
        INTRODUCTION,
        _table(("of all sweeps", "wrong, of runs"), _rates(sweeps)),
        _table(_HEAD_OF_SWEEPS, [_beside_others(sweep) for sweep in sweeps]),
        "![Fall of eval loss by seed](learning.svg)",
        LINES,
        *(_sweep(sweep) for sweep in sweeps),
    ]
    return "\n\n".join(told) + "\n"


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
    told = [
        f"## {sweep.cell}",
        f"{sweep.steps} steps, seeds {first} to {last}, {sweep.seconds:.0f} s in all.",
        f"Judged by {', '.join(sweep.judged_by)}.",
        f"{versions}, Python {sweep.python}, {sweep.device}; harness {sweep.harness_version}, begun {sweep.measured}.",
        _table(head, [_row(name, kind) for name, kind in sweep.kinds.items()]),
        "What is said of the first seed:",
        "\n".join(f"- {name}: {kind.example}" for name, kind in sweep.kinds.items()),
    ]
    return "\n\n".join(told)


def _row(name: str, kind: Kind) -> tuple[str, ...]:
    roots = [f"{codes} in {number}" for codes, number in kind.roots]
    passed = [f"pass in {kind.passed}"] if kind.passed else []
    runs = len(kind.learning)
    return name, STORIES[name], _falls(kind.falls), ", ".join([*passed, *roots]), f"{kind.learned} of {runs} learn"


def _falls(falls: Sequence[float]) -> str:
    return f"{min(falls):.2%} to {max(falls):.2%}, median {statistics.median(falls):.2%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
