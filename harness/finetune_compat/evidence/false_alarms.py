"""How often a gate raises an alarm where nothing changed. Host side: `python -m finetune_compat.evidence.false_alarms`.

Cheap cells of one stack run many times: with several seeds, in shuffled order, in one and in two processes at once.
Then a gate decides between every two runs of a seed, each as either side. Every decision must be ALLOW.

reports/trust/false-alarms.json    what was found
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import StackFailed
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.gate.decide import Compared, decide
from finetune_compat.gate.decision import Decision, Rule, Side
from finetune_compat.gate.defaults import Defaults
from finetune_compat.gate.policy import Policy, load_policy
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import Results, RowState, StackRow, judge_one, read_sweep
from finetune_compat.run.stack_run import planned_cells
from finetune_compat.stacks.ask import StackPython, cell_environ, stack_python
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.verify import OF_THE_MACHINE, differences

VARIANT = "llama-full-nogc"
"""The cheapest variant: two flows have it, and a run of both takes a second."""

STACK = "trl1.16"
SEEDS, TIMES, PROCESSES = 3, 7, (1, 2)
"""In each process every seed runs `TIMES` times: 3 processes give 21 runs of a seed, that is 1,260 decisions."""

LIMIT_S = 3600.0
_NAMES = ("before-py311", "after-py311")


@dataclass(frozen=True, slots=True)
class Found:
    """What the decisions were."""

    stack: str
    cells: tuple[str, ...]
    runs: int
    decisions: Mapping[str, int]
    """Number of decisions by answer."""
    spread: tuple[str, ...]
    """Measured facts that differ between two runs of one seed by more than rounding; empty if none does."""
    identical: bool
    """Whether two runs of a seed are equal bit for bit, except times, memory and the clock."""


def measure(name: str = STACK, seeds: int = SEEDS, times: int = TIMES) -> Found:
    """Run the cells and decide.

    Raises:
        CompatError: the stack has no environment, or its processes failed.
    """
    stack, ledger = stack_python(read_matrix(), name), load_ledger()
    with tempfile.TemporaryDirectory(prefix="compat-trust-") as folder:
        plan = _plan(stack, ledger, Path(folder))
        seen = [one for number in PROCESSES for one in _observed(stack, plan, Path(folder), number, seeds, times)]
    return judge_all(seen, ledger, load_policy(ledger))


def judge_all(seen: Sequence[Observation], ledger: Ledger, policy: Policy) -> Found:
    """Decide between every two runs of a seed. A run has one observation of each cell. Pure."""
    answers: Counter[str] = Counter()
    spread: set[str] = set()
    identical = True
    runs = {seed: list(_runs(group)) for seed, group in _by(seen, lambda one: one.seed).items()}
    for one, other in (pair for each in runs.values() for pair in itertools.permutations(each, 2)):
        answers[str(_decision(one, other, ledger, policy))] += 1
        for before, after in zip(one, other, strict=True):
            left, right = dataclasses.asdict(before), dataclasses.asdict(after)
            spread |= set(differences(left, right))
            identical = identical and _measured(left) == _measured(right)
    cells = tuple(sorted({parse_cell(one.cell).test for one in seen}))
    return Found(
        seen[0].stack.name, cells, sum(map(len, runs.values())), dict(answers), tuple(sorted(spread)), identical
    )


def _measured(seen: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in seen.items() if name not in OF_THE_MACHINE - {"subject_sha256"}}


def _by(seen: Sequence[Observation], key: Callable[[Observation], object]) -> dict[object, list[Observation]]:
    groups: dict[object, list[Observation]] = {}
    for one in seen:
        groups.setdefault(key(one), []).append(one)
    return groups


def _runs(seen: Sequence[Observation]) -> Iterator[tuple[Observation, ...]]:
    """One observation of each cell, in the order in which they were made."""
    of_cell = _by(seen, lambda one: one.cell)
    return zip(*(of_cell[cell] for cell in sorted(map(str, of_cell))), strict=True)


def _decision(before: Sequence[Observation], after: Sequence[Observation], ledger: Ledger, policy: Policy) -> Decision:
    sides = tuple(_renamed(seen, name) for seen, name in zip((before, after), _NAMES, strict=True))
    there = {one.cell: one for side in sides for one in side}
    rows = tuple(
        StackRow(name, RowState.RAN, "", tuple(one.cell for one in side))
        for name, side in zip(_NAMES, sides, strict=True)
    )
    verdicts = tuple(judge_one(one, ledger) for one in there.values())
    today = datetime.now(UTC).date()
    first, second = (
        Side(
            asked=name,
            stack=name,
            rule=Rule.LIVE,
            as_of=today,
            versions=dict(side[0].stack.resolved),
            not_followed=(),
            lock_sha256="",
            state=RowState.RAN,
            reason="",
        )
        for name, side in zip(_NAMES, sides, strict=True)
    )
    given = Compared(
        before=first,
        after=second,
        results=Results(Path(), rows, there, verdicts),
        ledger=ledger,
        policy=policy,
        today=today,
        command="",
        narrowed="",
        left_out=(),
    )
    return decide(given, Defaults(()), {}).decision


def _renamed(seen: Sequence[Observation], name: str) -> tuple[Observation, ...]:
    return tuple(
        dataclasses.replace(
            one, cell=f"{name}/{parse_cell(one.cell).name}", stack=dataclasses.replace(one.stack, name=name)
        )
        for one in seen
    )


def _plan(stack: StackPython, ledger: Ledger, folder: Path) -> Plan:
    versions = {**stack.lock.requirements, "torch": stack.lock.facts["torch"]}
    cells: tuple[PlannedCell, ...] = planned_cells(ledger, DeviceKind.CPU, versions)
    chosen = tuple(cell for cell in cells if str(cell.variant) == VARIANT)
    plan = Plan(
        run=str(folder),
        stack=stack.name,
        lock_sha256=stack.lock.sha256,
        torch_wanted=stack.lock.facts["torch"],
        base_torch=stack.environment.base_torch,
        device=DeviceKind.CPU,
        attention="sdpa",
        steps=10,
        seed=0,
        limit_s=LIMIT_S,
        cells=chosen,
    )
    (folder / "plan.json").write_text(plan.to_json(), encoding="utf-8")
    return plan


def _observed(
    stack: StackPython, plan: Plan, folder: Path, number: int, seeds: int, times: int
) -> tuple[Observation, ...]:
    """The observations of `number` processes that run at the same time, each in another order."""
    files = [folder / f"{number}-{each}.jsonl" for each in range(number)]
    processes = [
        subprocess.Popen(
            [
                *(str(stack.python), "-P", "-m", "finetune_compat.cell.repeat"),
                *(str(folder / "plan.json"), str(file), str(seeds), str(times), str(number * 10 + each)),
            ],
            env=cell_environ(()),
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each, file in enumerate(files)
    ]
    if any(process.wait() for process in processes):
        raise StackFailed(
            f"a process with {len(plan.cells)} cells ended without a result",
            where=stack.name,
            meaning="A library of this stack fails, or the machine ran out of memory.",
            todo="Run the stack's cells (`nox -l` lists the sessions).",
        )
    return tuple(one for file in files for one in read_sweep(file))


def main(arguments: Sequence[str]) -> int:
    """Measure, and write the result; 1 unless every decision is ALLOW."""
    parser = argparse.ArgumentParser(prog="false_alarms")
    parser.add_argument("--stack", default=STACK)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--times", type=int, default=TIMES)
    asked = parser.parse_args(arguments)
    found = measure(asked.stack, asked.seeds, asked.times)
    write_atomically(
        places().reports / "trust" / "false-alarms.json", json.dumps(dataclasses.asdict(found), indent=1) + "\n"
    )
    print(f"{sum(found.decisions.values()):,} decisions between equal sides: {dict(found.decisions)}")
    return int(set(found.decisions) != {str(Decision.ALLOW)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
