"""Run the cells of a plan again and again, in shuffled order.

    python -m finetune_compat.cell.repeat PLAN INTO SEEDS TIMES SHUFFLE

Every run is one line of the file INTO, an observation like that of any cell.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from finetune_compat.cell import runner
from finetune_compat.contract.plan import read_plan
from finetune_compat.contract.records import to_json


def main(plan_file: str, into: str, seeds: int, times: int, shuffle: int) -> None:
    """Run every cell with the seeds below `seeds`, `times` times each, in an order that follows from `shuffle`."""
    plan = read_plan(Path(plan_file))
    jobs = [(cell, seed) for cell in plan.cells for seed in range(seeds) for _ in range(times)]
    random.Random(shuffle).shuffle(jobs)
    with Path(into).open("a", encoding="utf-8") as lines:
        for cell, seed in jobs:
            # Trainers print about twenty lines per run.
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                seen = runner.run_cell(dataclasses.replace(plan, seed=seed), cell)
            lines.write(f"{to_json(seen)}\n")
            lines.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
