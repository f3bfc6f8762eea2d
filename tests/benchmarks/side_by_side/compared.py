"""Report a run, and compare every cell with its neighbour on the axis: a gate for every two neighbouring stacks.

python -m side_by_side.compared RUN
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from pathlib import Path

from finetune_compat import report
from finetune_compat.checks import Verdict, drift
from finetune_compat.checks.comparison import Change, compare
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.results.order import same_axis, stack_order
from finetune_compat.results.run_files import Results


def compared(results: Results) -> Counter[Change]:
    """Count the changes of cells between every two neighbouring stacks of an axis."""
    by_stack: dict[str, dict[str, Verdict]] = {row.name: {} for row in results.rows}
    for verdict in results.verdicts:
        stack, _, name = verdict.cell.partition("/")
        by_stack[stack][name] = verdict
    seen = results.observations
    changes: Counter[Change] = Counter()
    for before, after in itertools.pairwise(sorted(by_stack, key=stack_order)):
        if not same_axis(before, after):
            continue
        for name in dict.fromkeys((*by_stack[before], *by_stack[after])):
            one, other = seen.get(f"{before}/{name}"), seen.get(f"{after}/{name}")
            moved = drift.changes(one, other) if one and other else ()
            changes[compare(by_stack[before].get(name), by_stack[after].get(name), moved)] += 1
    return changes


def main(run: str) -> None:
    with report.deriving(Path(run), load_ledger()) as (summary, results):
        report.print_run(summary)
        print(dict(compared(results)))


if __name__ == "__main__":
    main(sys.argv[1])
