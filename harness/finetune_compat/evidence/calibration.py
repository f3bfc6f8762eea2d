"""How often the learning test is wrong: a sweep over seeds, judged, kept and told. Host side.

reports/learning/
    <stack>-<cell>.json         one sweep: eval losses and what was said of each run, by seed
    learning.md  learning.svg   derived from all of them: error rates, what is said of nearly dead flows, a drawing
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
from finetune_compat.results.run_files import read_sweep

HEALTHY = "healthy"
DEAD = (Handicap.FROZEN, Handicap.WANDERING)
NEARLY_DEAD = (Handicap.HUNDREDTH, Handicap.ONE_LAYER, Handicap.ONE_CLASS)

FEWEST_SEEDS = 200
"""Below, a rate of 0 leaves more than 1.5 % open."""

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """All runs of one kind, healthy or handicapped, by seed."""

    before: tuple[float, ...]
    after: tuple[float, ...]
    failing: tuple[str, ...]
    """Codes of the failing checks, with spaces between them; empty for a pass."""
    learning: tuple[str, ...]
    """The same for E802 and E804 alone, as if no other check had looked."""
    example: str
    """What is said of the first seed."""

    @property
    def falls(self) -> tuple[float, ...]:
        """Fall of eval loss as a share of it."""
        return tuple((before - after) / before for before, after in zip(self.before, self.after, strict=True))

    @property
    def passed(self) -> int:
        """Runs that no check found anything wrong with."""
        return self.failing.count("")

    @property
    def learned(self) -> int:
        """Runs that the learning test alone calls healthy."""
        return self.learning.count("")

    @property
    def roots(self) -> tuple[tuple[str, int], ...]:
        """The failing checks, and of how many runs, most frequent first."""
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
    """When the first run began."""
    cell: str
    steps: int
    seeds: tuple[int, int]
    """First and last."""
    seconds: float
    """What the runs took together."""
    judged_by: tuple[str, ...]
    """Codes of the checks there were."""
    kinds: dict[str, Kind]

    @property
    def false_alarms(self) -> Rate:
        """Healthy flows that some check fails."""
        runs = len(self.kinds[HEALTHY].failing)
        return Rate(runs - self.kinds[HEALTHY].passed, runs)

    @property
    def misses(self) -> Rate:
        """Dead flows that every check passes."""
        return _passed([self.kinds[kind] for kind in DEAD])

    @property
    def rounded(self) -> Rate:
        """Nearly dead flows that every check passes."""
        return _passed([self.kinds[kind] for kind in NEARLY_DEAD])

    @property
    def on_target(self) -> bool:
        """Whether nobody was called what they are not."""
        return not (self.false_alarms.wrong or self.misses.wrong or self.rounded.wrong)


def _passed(kinds: Sequence[Kind]) -> Rate:
    return Rate(sum(kind.passed for kind in kinds), sum(len(kind.failing) for kind in kinds))


_SWEEP = TypeAdapter(Sweep)


def read(observations: Path, seeds: range) -> Sweep:
    """The sweep over `seeds` among the runs of one cell in a file, judged.

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
            meaning=f"{error.type} at {error.stage}: {error.message}" if error else "Nothing says why.",
            todo="A cell that does not train on this stack says nothing of the learning test: sweep another one.",
        )
    return judged(seen)


def keep(sweep: Sweep, learning: Path | None = None) -> str:
    """Keep a sweep in place of an earlier one of its cell; what is kept decides what reports state.

    Returns:
        Where it was kept, or why it was not, in a sentence.

    Raises:
        RecordsError: a kept sweep cannot be read.
    """
    learning = learning or places().learning
    path, kept = learning / file_of(sweep.cell), read_kept(learning)
    if refusal := _why_not(sweep, kept):
        return f"Not kept in {learning}: {refusal}"
    write_atomically(path, _compact(sweep))
    return f"Kept in {path}."


def file_of(cell: str) -> str:
    """Name of the file that keeps the sweep of `cell`, whose id names the stack too."""
    return f"{re.sub(r'[^a-z0-9.+]+', '-', cell).strip('-')}.json"


def _why_not(sweep: Sweep, kept: Sequence[Sweep]) -> str | None:
    if (number := _length(sweep)) < FEWEST_SEEDS:
        return f"{number} seeds are too few to state a rate; it takes {FEWEST_SEEDS}."
    for other in kept:
        if other.cell == sweep.cell and _length(other) > number:
            return f"an earlier sweep of {other.cell} has {_length(other)} seeds. Remove it first if it is to go."
        if other.cell != sweep.cell and other.seeds[0] <= sweep.seeds[1] and sweep.seeds[0] <= other.seeds[1]:
            first = max(each.seeds[1] for each in kept) + 1
            return (
                f"{other.cell} has seeds {other.seeds[0]} to {other.seeds[1]}, and rates are added up over seeds that "
                f"are not shared. Sweep others: --seeds {first}-{first + number - 1}."
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


def read_kept(learning: Path | None = None) -> tuple[Sweep, ...]:
    """The kept sweeps, in order of their seeds.

    Raises:
        RecordsError: a file is not a sweep.
    """
    found = []
    for path in (learning or places().learning).glob("*.json"):
        try:
            found.append(_SWEEP.validate_json(path.read_bytes()))
        except ValueError as error:
            raise RecordsError(
                "not a sweep over seeds",
                where=str(path),
                meaning=str(error).splitlines()[0],
                todo="Remove it, and sweep that cell again with --seeds.",
            ) from None
    return tuple(sorted(found, key=lambda sweep: sweep.seeds))


# -------------------------------------------------------------------------------------------------------------- judged


def judged(seen: Sequence[Observation]) -> Sweep:
    """What the project's own checks say of every run of a sweep."""
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
        kinds={name: _kind([_beside(runs, seed, name) for seed in seeds]) for name in names},
    )


def _beside(runs: dict[tuple[int, str], Observation], seed: int, name: str) -> Observation:
    """A run with the frozen and the wandering run of its seed as its null. No run is its own null: a frozen one gets a
    twin that stands still, a wandering one is left what luck is known to do.
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


def _kind(runs: Sequence[Observation]) -> Kind:
    pairs = [_pair(seen) for seen in runs]
    verdicts = [judge(seen, flow_named(seen.flow), ()) for seen in runs]
    return Kind(
        before=tuple(round(pair.before or 0.0, _DIGITS) for pair in pairs),
        after=tuple(round(pair.after or 0.0, _DIGITS) for pair in pairs),
        failing=tuple(" ".join(verdict.failing) for verdict in verdicts),
        learning=tuple(_learning_alone(seen) for seen in runs),
        example=_said(verdicts[0]),
    )


def _said(verdict: Verdict) -> str:
    failing = [f"{said.code} {said.message}" for said in verdict.opinions if said.code in verdict.failing]
    return "; ".join(failing) or "nothing is wrong"


def _learning_alone(seen: Observation) -> str:
    case = Case(seen, flow_named(seen.flow))
    said = {"E802": eval_loss_falls(case), "E804": learns_beyond_the_null(case)}
    return " ".join(code for code, message in said.items() if message)
