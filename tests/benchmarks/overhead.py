"""Cost of the recorder: the same flows with it and without it, in one process.

nox -s "compat-3.11(trl='0.22')" -- --overhead

Without it a flow is what a user would write: load, prepare, wrap, train between two evaluations, save, reload. The two
run in turn, and the ratio is taken in pairs, so that a change of the machine's speed affects both.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finetune_compat.cell import execution, runner
from finetune_compat.contract.catalog import QWEN2, flow_named
from finetune_compat.contract.plan import PlannedCell, read_plan
from finetune_compat.contract.records import Precision, Stage, Variant

ROUNDS = 10
FLOWS = ("sft-peft-config", "trainer-peft-model")
VARIANTS = (
    Variant(QWEN2, Precision.NF4, gradient_checkpointing=True),
    Variant(QWEN2, Precision.INT8, gradient_checkpointing=True),
    Variant(QWEN2, Precision.FULL, gradient_checkpointing=False),
)


class NoRecorder:
    """Has a recorder's methods and records nothing."""

    @contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        yield

    def census(self, model: Any) -> None:
        pass

    def train(self, trainer: Any, rates_asked: tuple[float, ...]) -> None:
        trainer.evaluate()
        trainer.train()
        trainer.evaluate()


def main(plan_file: str) -> None:
    plan = read_plan(Path(plan_file))
    cells = [PlannedCell(flow, variant, ()) for flow in FLOWS for variant in VARIANTS]
    ratios = []
    print(f"{'cell':44} {'recorded s':>11} {'plain s':>8} {'ratio':>6}   (medians of {ROUNDS})", flush=True)
    for cell in cells:
        flow = flow_named(cell.flow)
        setup = execution.prepared(plan, cell, flow)
        run = importlib.import_module(flow.module).run

        def plain(setup: Any = setup, run: Any = run) -> None:
            run(setup, NoRecorder())

        def recorded(cell: PlannedCell = cell) -> None:
            observed = runner.run_cell(plan, cell)
            if observed.error is not None:
                sys.exit(f"{observed.cell} ends in {observed.error.type}: choose a stack in which it runs")

        recorded()
        plain()
        pairs = [(_seconds(recorded), _seconds(plain)) for _ in range(ROUNDS)]
        ratio = statistics.median(a / b for a, b in pairs)
        ratios.append(ratio)
        with_s, without_s = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{cell!s:44} {with_s:11.3f} {without_s:8.3f} {ratio:6.2f}", flush=True)
    print(f"{'all':44} {'':11} {'':8} {statistics.geometric_mean(ratios):6.2f}   (target: at most 1.15)")


def _seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1])
