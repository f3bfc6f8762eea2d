"""Calibrate the learning test: one cheap cell, healthy and handicapped in each way, over many seeds.

    nox -s "compat-3.11(trl='1.16')" -- --seeds 200

A seed is that of the model's weights, of the data and of the adapters. Every run is recorded as any cell is, one line
of `seeds/<stack>.jsonl` in the run's directory; the host judges them.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from harness.catalog import QWEN2, Handicap
from harness.cell import runner
from harness.plan import Plan, PlannedCell, read_plan
from harness.records import Precision, Variant, to_json

FLOW, VARIANT = "sft-peft-config", Variant(QWEN2, Precision.FULL, gradient_checkpointing=False)

_TOLD_EVERY = 10


def main(plan_file: str, seeds: range) -> None:
    plan = read_plan(Path(plan_file))
    path = plan.seeds_file
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for done, seed in enumerate(seeds, 1):
            for handicap in (None, *Handicap):
                lines.write(_observed(plan, seed, handicap))
            lines.flush()
            if done % _TOLD_EVERY == 0:
                print(f"{done} of {len(seeds)} seeds", flush=True)


def _observed(plan: Plan, seed: int, handicap: Handicap | None) -> str:
    planned = PlannedCell(FLOW, VARIANT, (), handicap=handicap)
    return to_json(runner.run_cell(dataclasses.replace(plan, seed=seed), planned)) + "\n"


if __name__ == "__main__":
    main(sys.argv[1], range(int(sys.argv[2]), int(sys.argv[3])))
