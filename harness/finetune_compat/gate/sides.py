"""Run the cells of a side in the environment of its lock, as part of the gate's run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.errors import EnvironmentMismatch, Unbuildable
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.gate.decision import Side
from finetune_compat.gate.resolve import Resolved
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.results.run_files import Results, RowState, StackRow, judged, read_rows, write_row
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import environment_of
from finetune_compat.stacks.locks import Unsolvable


@dataclass(frozen=True, slots=True)
class GateSelection:
    """The cells that a gate compares; all of them if empty."""

    flows: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    """Cells without stack and device, for example `sft-peft-model[qwen2-nf4-gc]`."""

    def takes(self, cell: PlannedCell) -> bool:
        """Whether the selection includes `cell`."""
        return (not self.flows or cell.flow in self.flows) and (not self.cells or str(cell) in self.cells)


class Runs(Protocol):
    """Runs the sides of a gate and returns the results."""

    @property
    def run(self) -> Path:
        """The directory of the gate's run."""

    @property
    def ledger(self) -> Ledger:
        """The ledger of known issues."""

    @property
    def progress(self) -> Callable[[str], None]:
        """Called with each line of progress."""

    def cells(self, of: Resolved, selection: GateSelection, /) -> StackPython | None:
        """Run the selected cells of a side; its row says so where none can be run."""

    def results(self) -> Results:
        """Everything that ran, judged."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the cells of one gate."""

    run: Path
    ledger: Ledger
    gpus: Sequence[Gpu]
    options: RunOptions
    progress: Callable[[str], None]

    def cells(self, of: Resolved, selection: GateSelection) -> StackPython | None:
        """Run the selected cells of a side; its row says so where none can be run.

        Raises:
            RegistryUnreachable, InstallError: an environment cannot be made, and the versions are not at fault.
        """
        stack = prepared(of, self.run)
        if stack is None:
            return None
        device, lent = kind_of(self.gpus), stack.environment.base_torch
        whole = stack_run.plan_of(of.stack, stack.lock, self.options, self.ledger, device, base_torch=lent)
        self._run(replace(whole, cells=tuple(cell for cell in whole.cells if selection.takes(cell))), stack)
        return stack

    def results(self) -> Results:
        """Everything that ran, judged."""
        return judged(self.run, self.ledger)

    def _run(self, plan: Plan, stack: StackPython) -> None:
        if not plan.cells:
            # No selected cell exists on these versions, so there is nothing to run.
            write_row(self.run, StackRow(plan.stack, RowState.RAN, "", ()))
            return
        self.progress(f"{plan.stack}: running {len(plan.cells)} cells")
        log = self.run / "logs" / f"{plan.stack}.txt"
        stack_run.run_plan(plan, stack.lock, stack.python, self.gpus, self.options, log, alone=True)
        self.progress(f"{plan.stack}: done")


def prepared(of: Resolved, run: Path) -> StackPython | None:
    """The environment of a side. None where it cannot be made; the side's row then holds the reason.

    Raises:
        RegistryUnreachable, InstallError: an environment cannot be made, and the versions are not at fault.
    """
    if isinstance(of.lock, Unsolvable):
        write_row(run, StackRow(of.stack, RowState.UNINSTALLABLE, of.lock.cause, ()))
        return None
    try:
        python, environment = environment_of(of.lock)
    except Unbuildable as error:
        write_row(run, StackRow(of.stack, RowState.UNINSTALLABLE, error.what, ()))
        return None
    except EnvironmentMismatch as error:
        write_row(run, StackRow(of.stack, RowState.INFRASTRUCTURE, error.what, ()))
        return None
    return StackPython(of.stack, python, of.lock, environment)


def side(of: Resolved, run: Path) -> Side:
    """A side, after it ran."""
    row = next(row for row in read_rows(run) if row.name == of.stack)
    lock = None if isinstance(of.lock, Unsolvable) else of.lock
    return Side(
        asked=of.asked,
        stack=of.stack,
        rule=of.rule,
        as_of=of.plan.as_of,
        versions={**lock.requirements, "torch": of.plan.torch} if lock else {},
        not_followed=of.not_followed,
        lock_sha256=lock.sha256 if lock else "",
        state=row.state,
        reason=row.reason,
    )
