"""Run cells under a tracer, and record which sides of device-dependent branches they took.

    nox -s "compat-3.11(trl='0.22')" -- --branches

Tracing is a separate mode: it slows a cell down, and its observation is not stored.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from finetune_compat.cell import runner
from finetune_compat.cell.device_guards import Condition, Jump, jumps
from finetune_compat.contract.branches import PACKAGES, BranchTrace, Guard, TracedCell
from finetune_compat.contract.plan import Plan, PlannedCell, read_plan
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import write_atomically

_INSTALLED = "/site-packages/"

Place = tuple[str, str, Condition]
"""File, function and condition of a guard."""


class BranchTracer:
    """While open, notes the values of device-dependent conditions in functions of `PACKAGES`."""

    def __init__(self) -> None:
        self.seen: dict[Place, set[bool]] = defaultdict(set)
        self._known: dict[CodeType, dict[int, Jump]] = {}

    def __enter__(self) -> Self:
        sys.settrace(self._call)
        return self

    def __exit__(self, *exception: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        """Trace a frame by instructions if its function has a guard. Called at every call of a Python function."""
        code = frame.f_code
        found = self._known.get(code)
        if found is None:
            found = self._known[code] = jumps(code) if in_packages(code.co_filename) else {}
        if not found:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._follower(code, found)

    def _follower(self, code: CodeType, found: dict[int, Jump]) -> Callable[..., Any]:
        file = code.co_filename.rpartition(_INSTALLED)[2]
        last: Jump | None = None

        def follow(frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
            nonlocal last
            if event == "opcode":
                now = found.get(frame.f_lasti)
                if last is not None and now is not last:
                    self.seen[file, code.co_qualname, last.condition].add(last.value(frame.f_lasti))
                last = now
            return follow

        return follow


def in_packages(file: str) -> bool:
    """Whether `file` belongs to an installed package of `PACKAGES`."""
    _, installed, inside = file.rpartition(_INSTALLED)
    return bool(installed) and inside.partition("/")[0] in PACKAGES


def main(plan_file: str) -> None:
    """Trace all cells of the plan, one after the other, and write the record to the plan's file."""
    plan = read_plan(Path(plan_file))
    with suppress(Exception):  # a cell meets and records errors of the import
        importlib.import_module("finetune_compat.cell.execution")  # before tracing, which slows imports down
    by_cell, observed = [], []
    for number, planned in enumerate(plan.cells, 1):
        print(f"{number} of {len(plan.cells)}: {planned}", flush=True)
        with BranchTracer() as tracer:
            observed.append(_observed(plan, planned))
        by_cell.append(tracer.seen)
    found = trace(plan, observed, by_cell)
    write_atomically(plan.branches_file, json.dumps(dataclasses.asdict(found)))


def _observed(plan: Plan, planned: PlannedCell) -> Observation:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        return runner.run_cell(plan, planned)


def trace(plan: Plan, observed: list[Observation], by_cell: list[dict[Place, set[bool]]]) -> BranchTrace:
    """The record of the cells of `plan`, from their observations and the values of the conditions in each."""
    first = observed[0]
    places = sorted({place for seen in by_cell for place in seen}, key=lambda place: (*place[:2], place[2].line))
    return BranchTrace(
        stack=plan.stack,
        lock_sha256=plan.lock_sha256,
        versions=dict(sorted(first.stack.resolved.items())),
        python=first.stack.python,
        device=first.device.name,
        harness_version=first.harness_version,
        measured=first.started_at,
        cells=tuple(
            TracedCell(str(planned), seen.device.emulates is not None, _error(seen))
            for planned, seen in zip(plan.cells, observed, strict=True)
        ),
        guards=tuple(_guard(place, by_cell) for place in places),
    )


def _error(seen: Observation) -> str:
    return f"{seen.error.type} at {seen.error.stage}" if seen.error else ""


def _guard(place: Place, by_cell: list[dict[Place, set[bool]]]) -> Guard:
    file, function, condition = place
    true, false = (
        tuple(number for number, seen in enumerate(by_cell) if side in seen.get(place, ())) for side in (True, False)
    )
    return Guard(
        file=file,
        line=condition.line,
        function=function,
        condition=condition.text,
        accelerator=condition.accelerator,
        true=true,
        false=false,
    )


if __name__ == "__main__":
    main(sys.argv[1])
