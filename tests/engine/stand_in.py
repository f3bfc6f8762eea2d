"""Takes the place of pytest in a stack's environment: observes the cells of its plan, one after another, without torch.

It notes in the file that STAND_IN_LOG names when a cell begins and ends, and on which node.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from finetune_compat.contract.plan import read_plan
from finetune_compat.contract.records import Started, to_json
from finetune_compat.machine import child_processes
from finetune_compat.machine.files import write_atomically
from finetune_compat.store import stored_files
from run_builders import observed, stored_now

CELL_S = 0.5
"""Seconds of a cell."""


def append(path: str | Path, line: str) -> None:
    """Append a line in one write."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def main() -> None:
    """Observe the cells of the plan that are not cached."""
    child_processes.end_with_parent()
    plan = read_plan(Path(sys.argv[sys.argv.index("--plan") + 1]))
    write_atomically(plan.selected_file, "".join(f"{plan.id_of(cell)}\n" for cell in plan.cells))
    log, node, lines = os.environ["STAND_IN_LOG"], os.environ["STAND_IN_NODE"], Path(plan.run) / "observations.jsonl"
    for cell in plan.cells:
        name = plan.id_of(cell)
        if cell.stored or cell.recipe is None or plan.store is None:
            continue
        append(log, f"begins {name} {node}")
        append(lines, to_json(Started(cell=name, started=datetime.now(UTC).isoformat())))
        time.sleep(CELL_S)
        seen = observed(name, cell.recipe.features)
        stored_files.write(Path(plan.store), stored_now(cell.recipe, seen))  # first, as cells do
        append(lines, to_json(seen))
        append(log, f"ends {name} {node}")


main()
