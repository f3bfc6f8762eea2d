"""Do ways to run one training that must agree give the same losses, and does a release learn as fast? Host side.

    nox -s trajectories -- [STACK]...

Each stack trains LoRA adapters on a tiny model: with accumulation, with gradient checkpointing, without padding,
interrupted and resumed, and in two processes. Stacks that are not named keep their place in the record.

reports/trajectories/
    trajectories.json   the measurements
    trajectories.md     derived from them
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.trajectory import WAYS, Task, Way
from finetune_compat.evidence.trajectory_page import page
from finetune_compat.evidence.trajectory_record import (
    FASTER,
    SLOWER,
    Measured,
    Run,
    Speed,
    read_record,
    record_text,
    steps_to_target,
)
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import commit
from finetune_compat.results.order import stack_order
from finetune_compat.stacks.ask import StackPython, ask, stack_python
from finetune_compat.stacks.matrix import read_matrix

MODULE = "finetune_compat.cell.trajectories"

STACKS = ("trl0.9", "trl0.12", "trl0.16", "trl0.19", "trl0.22", "trl0.24", "trl0.27", "trl1.0", "trl1.6", "trl1.16")
"""The default: across all versions, one or two of each generation."""

SEEDS = range(20)

_LIMIT_S = 1200.0


def measured(stack: StackPython) -> Measured:
    """All ways of all tasks that the releases of `stack` have, and the speed of learning.

    Raises:
        StackFailed: a stack's process ended without an answer.
    """
    ways = [_asked(task, way) for task, listed in WAYS.items() for way in listed]
    found = _answer(stack, ways)
    outcomes = zip(ways, found["runs"], strict=True)
    runs = tuple(_run(asked, outcome) for asked, outcome in outcomes if not outcome.get("absent"))
    speed = Speed(*(tuple(_steps(stack, rate)) for rate in (1.0, SLOWER, FASTER)))
    return Measured(datetime.now(UTC).date().isoformat(), commit(), found["versions"], runs, speed)


def _asked(task: Task, way: Way, seed: int = 0, rate: float = 1.0) -> dict[str, Any]:
    return {"task": task, "way": way, "seed": seed, "rate": rate}


def _answer(stack: StackPython, runs: Sequence[dict[str, Any]]) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        return ask(stack, MODULE, {"scratch": scratch, "runs": runs}, _LIMIT_S)


def _run(asked: dict[str, Any], outcome: dict[str, Any]) -> Run:
    return Run(asked["task"], asked["way"], tuple(outcome["losses"]), tuple(outcome["weights"]), outcome["error"])


def _steps(stack: StackPython, rate: float) -> Iterator[float | None]:
    runs = [_asked(Task.SFT, Way.PLAIN, seed, rate) for seed in SEEDS]
    return (steps_to_target(outcome["losses"]) for outcome in _answer(stack, runs)["runs"])


def main(names: Sequence[str]) -> int:
    """Measure the stacks called `names`, by default `STACKS`, and write the record and its page after each.

    Returns:
        The exit code.
    """
    folder = places().trajectories
    try:
        matrix = read_matrix()
        wanted = [matrix.stack(name).name for name in names or STACKS]
        for number, name in enumerate(wanted, 1):
            print(f"{number} of {len(wanted)}: {name}", file=sys.stderr, flush=True)
            record = read_record(folder / "trajectories.json") | {name: measured(stack_python(matrix, name))}
            ordered = dict(sorted(record.items(), key=lambda item: stack_order(item[0])))
            write_atomically(folder / "trajectories.json", record_text(ordered))
            write_atomically(folder / "trajectories.md", page(ordered))
    except CompatError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"Stored in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
