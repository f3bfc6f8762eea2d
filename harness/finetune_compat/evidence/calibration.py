"""Error rates of the learning test: sweeps over seeds, judged and stored. Host side.

reports/learning/
    <stack>-<cell>.json         one sweep: eval losses and failing checks of each run, by seed
    learning.md  learning.svg   derived from all sweeps: error rates, verdicts of nearly dead flows, a drawing
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.checks import CHECKS, Verdict, judge
from finetune_compat.checks.case import Case
from finetune_compat.checks.learning import eval_loss_falls, learns_beyond_the_null
from finetune_compat.checks.rates import Rate
from finetune_compat.contract.catalog import Handicap, flow_named
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import Deep, LossPair, Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.record_files import read_record
from finetune_compat.results.run_files import read_sweep

HEALTHY = "healthy"
DEAD = (Handicap.FROZEN, Handicap.WANDERING)
NEARLY_DEAD = (Handicap.HUNDREDTH, Handicap.ONE_LAYER, Handicap.ONE_CLASS)

FEWEST_SEEDS = 200
"""Minimum seeds of a sweep. With fewer, a measured rate of 0 allows a true rate above 1.5 %."""

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class RunsOfKind:
    """All runs of one kind, healthy or handicapped, by seed."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    failing: tuple[str, ...]
    """Codes of the failing checks of each run, separated by spaces; empty for a pass."""
    learning: tuple[str, ...]
    """The same for E802 and E804 alone, without the other checks."""
    example: str
    """Messages of the failing checks of the first seed."""

    @property
    def falls(self) -> tuple[float, ...]:
        """Fall of eval loss, as a share of eval loss before training."""
        return tuple((before - after) / before for before, after in zip(self.before, self.after, strict=True))

    @property
    def passed(self) -> int:
        """Number of runs without a failing check."""
        return self.failing.count("")

    @property
    def learned(self) -> int:
        """Number of runs that the learning test alone calls healthy."""
        return self.learning.count("")

    @property
    def roots(self) -> tuple[tuple[str, int], ...]:
        """Sets of failing checks with their number of runs, most frequent first."""
        return tuple(Counter(codes for codes in self.failing if codes).most_common())


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep, judged."""

    stack: str
    versions: dict[str, str]
    python: str
    device: str
    harness_version: str
    measured: str
    """Start time of the first run."""
    cell: str
    steps: int
    seeds: tuple[int, int]
    """First and last."""
    seconds: float
    """Total duration of the runs."""
    judged_by: tuple[str, ...]
    """Codes of all checks of that harness."""
    kinds: dict[str, RunsOfKind]

    @property
    def false_alarms(self) -> Rate:
        """Rate of healthy runs with a failing check."""
        runs = len(self.kinds[HEALTHY].failing)
        return Rate(runs - self.kinds[HEALTHY].passed, runs)

    @property
    def misses(self) -> Rate:
        """Rate of dead runs that every check passes."""
        return _passed([self.kinds[kind] for kind in DEAD])

    @property
    def rounded(self) -> Rate:
        """Rate of nearly dead runs that every check passes."""
        return _passed([self.kinds[kind] for kind in NEARLY_DEAD])

    @property
    def on_target(self) -> bool:
        """Whether there are no false alarms and no misses."""
        return not (self.false_alarms.wrong or self.misses.wrong or self.rounded.wrong)


def _passed(kinds: Sequence[RunsOfKind]) -> Rate:
    return Rate(sum(kind.passed for kind in kinds), sum(len(kind.failing) for kind in kinds))


_SWEEP = TypeAdapter(Sweep)


def read(observations: Path, seeds: range) -> Sweep:
    """Read the runs of one cell with these `seeds` from a file, and judge them.

    Raises:
        RecordsError: the sweep cannot be read, or a run of it did not train.
    """
    seen = [each for each in read_sweep(observations) if each.seed in seeds]
    lost = [each for each in seen if each.training is None]
    if lost or not seen:
        error = lost[0].error if lost else None
        raise RecordsError(
            f"{len(lost)} of {len(seen)} runs of the sweep did not train",
            where=str(observations),
            meaning=f"{error.type} at {error.stage}: {error.message}" if error else "No error was recorded.",
            todo="Sweep another cell: this one does not train on this stack, so it cannot measure the learning test.",
        )
    return judged(seen)


def save(sweep: Sweep, learning: Path | None = None) -> str:
    """Store a sweep in place of an earlier one of its cell. Reports state the rates of the stored sweeps.

    Returns:
        A sentence: where the sweep is stored, or why it is not.

    Raises:
        RecordsError: a stored sweep cannot be read.
    """
    learning = learning or places().learning
    path, kept = learning / file_of(sweep.cell), read_sweeps(learning)
    if refusal := _why_not(sweep, kept):
        return f"Not stored in {learning}: {refusal}"
    write_atomically(path, _compact(sweep))
    return f"Stored in {path}."


def file_of(cell: str) -> str:
    """Name of the file for the sweep of `cell`. The cell id contains the stack."""
    return f"{re.sub(r'[^a-z0-9.+]+', '-', cell).strip('-')}.json"


def _why_not(sweep: Sweep, kept: Sequence[Sweep]) -> str | None:
    if (number := _length(sweep)) < FEWEST_SEEDS:
        return f"{number} seeds are too few to state a rate; at least {FEWEST_SEEDS} are needed."
    for other in kept:
        if other.cell == sweep.cell and _length(other) > number:
            return f"an earlier sweep of {other.cell} has {_length(other)} seeds. To replace it, remove it first."
        if other.cell != sweep.cell and other.seeds[0] <= sweep.seeds[1] and sweep.seeds[0] <= other.seeds[1]:
            first = max(each.seeds[1] for each in kept) + 1
            return (
                f"{other.cell} has seeds {other.seeds[0]} to {other.seeds[1]}, and rates are summed over seeds that "
                f"sweeps do not share. Use other seeds: --seeds {first}-{first + number - 1}."
            )
    return None


def _length(sweep: Sweep) -> int:
    return sweep.seeds[1] - sweep.seeds[0] + 1


def _compact(sweep: Sweep) -> str:
    """JSON with one line per list, so that a changed run changes one line."""
    raw = dataclasses.asdict(sweep)
    kinds = raw.pop("kinds")
    head = json.dumps(raw, indent=1)[:-2]
    body = ",\n".join(f' "{name}": {_lists(kind)}' for name, kind in kinds.items())
    return f'{head},\n "kinds": {{\n{body}\n }}\n}}\n'


def _lists(kind: dict[str, object]) -> str:
    fields = ",\n".join(f'  "{name}": {json.dumps(value, separators=(",", ":"))}' for name, value in kind.items())
    return f"{{\n{fields}\n }}"


def read_sweeps(learning: Path | None = None) -> tuple[Sweep, ...]:
    """The stored sweeps, in order of their seeds.

    Raises:
        RecordsError: a file is not a sweep.
    """
    found = []
    for path in (learning or places().learning).glob("*.json"):
        todo = "Remove it, and sweep that cell again with --seeds."
        found.append(read_record(_SWEEP, path, name="a sweep over seeds", todo=todo))
    return tuple(sorted(found, key=lambda sweep: sweep.seeds))


# -------------------------------------------------------------------------------------------------------------- judged


def judged(seen: Sequence[Observation]) -> Sweep:
    """Judge every run of a sweep with the project's checks."""
    runs = {(each.seed, each.handicap or HEALTHY): each for each in seen}
    seeds = sorted({seed for seed, _ in runs})
    names = [HEALTHY, *Handicap]
    first = seen[0]
    return Sweep(
        stack=first.stack.name,
        versions=dict(first.stack.resolved),
        python=first.stack.python,
        device=first.device.name,
        harness_version=first.harness_version,
        measured=first.started_at,
        cell=first.cell,
        steps=first.training.steps if first.training else 0,
        seeds=(seeds[0], seeds[-1]),
        seconds=round(sum(each.duration_s for each in seen), 1),
        judged_by=tuple(check.code for check in CHECKS),
        kinds={name: _kind([_with_null(runs, seed, name) for seed in seeds]) for name in names},
    )


def _with_null(runs: dict[tuple[int, str], Observation], seed: int, name: str) -> Observation:
    """A run with the frozen and the wandering run of its seed as its null. No run is its own null: a frozen run gets a
    twin with unchanged eval loss, and a wandering run gets no wanderers, so that only the known limit of luck applies.
    """
    frozen, wandering = _pair(runs[seed, Handicap.FROZEN]), _pair(runs[seed, Handicap.WANDERING])
    deep = Deep(
        twin=LossPair(frozen.before, frozen.before) if name == Handicap.FROZEN else frozen,
        wanderers=() if name == Handicap.WANDERING else (wandering,),
    )
    return dataclasses.replace(runs[seed, name], deep=deep)


def _pair(seen: Observation) -> LossPair:
    training = seen.training
    return LossPair(training.eval_before, training.eval_after) if training else LossPair(None, None)


def _kind(runs: Sequence[Observation]) -> RunsOfKind:
    pairs = [_pair(seen) for seen in runs]
    verdicts = [judge(seen, flow_named(seen.flow), ()) for seen in runs]
    return RunsOfKind(
        before=tuple(round(pair.before or 0.0, _DIGITS) for pair in pairs),
        after=tuple(round(pair.after or 0.0, _DIGITS) for pair in pairs),
        failing=tuple(" ".join(verdict.failing) for verdict in verdicts),
        learning=tuple(_learning_alone(seen) for seen in runs),
        example=_messages(verdicts[0]),
    )


def _messages(verdict: Verdict) -> str:
    failing = [f"{each.code} {each.message}" for each in verdict.opinions if each.code in verdict.failing]
    return "; ".join(failing) or "nothing is wrong"


def _learning_alone(seen: Observation) -> str:
    case = Case(seen, flow_named(seen.flow))
    messages = {"E802": eval_loss_falls(case), "E804": learns_beyond_the_null(case)}
    return " ".join(code for code, message in messages.items() if message)
