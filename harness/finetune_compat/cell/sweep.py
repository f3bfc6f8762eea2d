"""Calibrate the learning check: run one cheap cell, healthy and with each handicap, for many seeds.

    nox -s "compat-3.11(trl='1.16')" -- --seeds 200

A seed sets the weights of the model, the data and the adapters. Every run is one line of a file: an observation like
that of any cell, which the host judges. It is safe to interrupt: runs that are in the file are not repeated.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from finetune_compat.cell import runner
from finetune_compat.contract.catalog import Handicap
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import to_json
from finetune_compat.machine.files import write_atomically

_REPORT_EVERY = 60
"""Runs between two progress messages: ten seeds."""


def main(plan_file: str, into: str, seeds: range) -> None:
    """Run the only cell of the plan for all `seeds` and handicaps, and append the observations to the file `into`."""
    plan, path = read_plan(Path(plan_file)), Path(into)
    [cell] = plan.cells
    path.parent.mkdir(parents=True, exist_ok=True)
    there = _whole(path)
    wanted = [pair for pair in itertools.product(seeds, (None, *Handicap)) if pair not in there]
    begun = time.monotonic()
    with path.open("a", encoding="utf-8") as lines:
        for done, (seed, handicap) in enumerate(wanted, 1):
            lines.write(_observed(plan, cell, seed, handicap))
            lines.flush()
            if done % _REPORT_EVERY == 0:
                left = (time.monotonic() - begun) / done * (len(wanted) - done)
                print(f"{cell}: {done} of {len(wanted)} runs, {left / 60:.0f} min left", flush=True)


def _whole(path: Path) -> set[tuple[int, str | None]]:
    """Seed and handicap of the runs in `path`. A last line that is incomplete is removed from the file."""
    if not path.exists():
        return set()
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(path, whole)
    runs = map(json.loads, whole.splitlines())
    return {(run["seed"], run["handicap"]) for run in runs}


def _observed(plan: Plan, cell: PlannedCell, seed: int, handicap: Handicap | None) -> str:
    planned = dataclasses.replace(cell, handicap=handicap)
    # Trainers print about twenty lines per run, which would hide the progress messages.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return to_json(runner.run_cell(dataclasses.replace(plan, seed=seed), planned)) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], range(int(sys.argv[3]), int(sys.argv[4])))
