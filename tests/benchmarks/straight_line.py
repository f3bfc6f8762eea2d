"""Run every planned flow once, in sequence, without a recorder: the least time that running them can take.

BENCHMARK_PLAN names the plan of a session. As a script this is the floor that sessions are compared with; the tests in
`plain/` run the same functions, as a project without a harness would.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import Stage


class NoRecorder:
    """Has a recorder's methods, and stores eval loss before and after training."""

    before = after = float("nan")

    @contextmanager
    def at(self, stage: Stage) -> Iterator[None]:
        yield

    def census(self, model: Any) -> None:
        pass

    def train(self, trainer: Any, rates_asked: tuple[float, ...]) -> None:
        self.before = trainer.evaluate().get("eval_loss", self.before)
        trainer.train()
        self.after = trainer.evaluate().get("eval_loss", self.after)


def planned() -> Plan:
    """The plan of the session, with scratch space for models."""
    file = Path(os.environ["BENCHMARK_PLAN"])
    return replace(read_plan(file), run=str(file.parent.parent / "straight-line"))


def run(plan: Plan, cell: PlannedCell) -> NoRecorder:
    """Run one flow as its file defines it."""
    from finetune_compat.cell import execution
    from finetune_compat.cell.instruments.emulation import presented
    from transformers import set_seed

    flow = flow_named(cell.flow)
    set_seed(plan.seed)
    setup = execution.prepared(plan, cell, flow)
    set_seed(plan.seed)
    recorder = NoRecorder()
    try:
        with presented() if setup.emulates else nullcontext():
            importlib.import_module(flow.module).run(setup, recorder)
    finally:
        shutil.rmtree(setup.scratch, ignore_errors=True)
    return recorder


def main() -> None:
    plan = planned()
    _import()
    start = time.perf_counter()
    # Starts a new line: progress bars may have left one unfinished.
    for number, cell in enumerate(plan.cells):
        try:
            run(plan, cell)
        except Exception as error:  # noqa: BLE001 - flows that fail in a release are part of the work
            print(f"\nran {cell}: {type(error).__name__}", flush=True)
        else:
            print(f"\nran {cell}", flush=True)
        if number == 0:
            # As sessions do: otherwise every collection visits the whole imported stack.
            gc.freeze()
    print(f"\nflows took {time.perf_counter() - start:.2f} s", flush=True)


def _import() -> None:
    """Import what all flows import, so that it does not count as the first one's."""
    for name in ("finetune_compat.cell.execution", "bitsandbytes"):
        with suppress(Exception):  # if it cannot be imported, the flows report it
            importlib.import_module(name)


if __name__ == "__main__":
    main()
