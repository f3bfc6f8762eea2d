"""Run the cells of a side in the environment of its lock, as part of the gate's run."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.cell_id import CellId, parse_cell
from finetune_compat.contract.errors import CompatError, EnvironmentMismatch, Unbuildable
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.gate.decision import Side
from finetune_compat.gate.enough import Enough
from finetune_compat.gate.progress import GateProgress
from finetune_compat.gate.resolved import Resolved
from finetune_compat.machine.capacity import at_once, this_machine
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.results.run_files import (
    Growing,
    Results,
    RowState,
    StackRow,
    judged,
    read_observations,
    read_rows,
    write_row,
)
from finetune_compat.run import stack_run
from finetune_compat.run.default_tier import default_tier
from finetune_compat.run.estimate import CELL_S
from finetune_compat.run.from_store import look_up
from finetune_compat.run.options import RunOptions
from finetune_compat.run.workers import PATIENCE_S, Pool, Sharing
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import environment_of, made_environment
from finetune_compat.stacks.locks import Unsolvable


@dataclass(frozen=True, slots=True)
class GateSelection:
    """The cells that a gate compares; all of them if empty."""

    flows: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    """Cells without stack and device, for example `sft-peft-model[qwen2-nf4-gc]`."""

    def takes(self, cell: PlannedCell) -> bool:
        """Whether the selection includes `cell`."""
        return self._includes(cell.flow, str(cell))

    def has(self, cell: CellId) -> bool:
        """Whether the selection includes the cell with this id."""
        return self._includes(cell.flow, cell.test)

    def _includes(self, flow: str, test: str) -> bool:
        return (not self.flows or flow in self.flows) and (not self.cells or test in self.cells)


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

    def ahead(self, asked: Sequence[tuple[Resolved, GateSelection]], /) -> None:
        """Run cells that will be asked for, if several sides at once are faster."""

    def results(self) -> Results:
        """Everything that ran, judged."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs the cells of one gate."""

    run: Path
    ledger: Ledger
    gpus: Sequence[Gpu]
    options: RunOptions
    shown: GateProgress
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Rank of each cell by name: the lowest run first."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Expected duration of each cell by name."""
    enough: Enough = field(default_factory=Enough)
    """Says when the cells of both sides are ended."""
    read_so_far: Growing = field(default_factory=Growing)
    dropped: list[str] = field(default_factory=list)
    """Names of the cells that were ended, or had not begun."""

    @property
    def progress(self) -> Callable[[str], None]:
        """Prints a line."""
        return self.shown.say

    def ended(self, cell: str) -> None:
        """A cell of one side ended."""
        self.shown.ended(cell)
        self.enough.ended(cell)

    def both(self, before: Resolved, after: Resolved, selection: GateSelection) -> tuple[StackPython | None, ...]:
        """Run both sides; on a CPU in parallel, with as many workers together as there are cores."""
        stacks = dict.fromkeys((before.stack, after.stack))
        pool = Pool(at_once(this_machine(len(self.gpus))), stacks)
        sides = {of.stack: of for of in (before, after)}
        with ThreadPoolExecutor(1 if self.gpus else len(stacks)) as threads:
            try:
                ran = list(threads.map(lambda of: self._side(of, selection, pool), sides.values()))
            except BaseException:
                self.enough.stop.set()  # the other side has nothing left to be compared with
                raise
        found = dict(zip(sides, ran, strict=True))
        if self.enough.stop.is_set():
            self._drop_unfinished(tuple(sides))
        return found[before.stack], found[after.stack]

    def cells(self, of: Resolved, selection: GateSelection) -> StackPython | None:
        """Run the selected cells of a side; its row says so where none can be run.

        Raises:
            RegistryUnreachable, InstallError: an environment cannot be made, and the versions are not at fault.
        """
        pool = Pool(at_once(this_machine(len(self.gpus))), (of.stack,))
        return self._of(of, selection, pool, threading.Event())

    def ahead(self, asked: Sequence[tuple[Resolved, GateSelection]]) -> None:
        """Run cells that will be asked for. On a CPU in parallel: the start of a stack takes one core only."""
        cores = at_once(this_machine(len(self.gpus)))
        if self.gpus or cores == 1:
            return
        pool = Pool(cores, ())

        def run(of: Resolved, selection: GateSelection) -> None:
            with contextlib.suppress(CompatError):  # it is said when they are asked for
                self._of(of, selection, pool, threading.Event())

        with ThreadPoolExecutor(cores) as threads:
            list(threads.map(lambda one: run(*one), asked))

    def results(self) -> Results:
        """Everything that ran, judged."""
        return judged(self.run, self.ledger, growing=self.read_so_far)

    def _side(self, of: Resolved, selection: GateSelection, pool: Pool) -> StackPython | None:
        """Run one of both sides. Cached cells may make BLOCK certain: then no environment is needed for the others."""
        stack = self._served(of, selection, pool)
        if stack and self.enough.stop.wait(PATIENCE_S):
            pool.leave(of.stack)
            self.shown.phase(of.stack, "")
            return stack
        return self._of(of, selection, pool, self.enough.stop)

    def _served(self, of: Resolved, selection: GateSelection, pool: Pool) -> StackPython | None:
        """The side after its cells that tell something were read from the store; None if they are not all cached, or
        if all cells are.
        """
        stack = _made(of)
        if stack is None:
            return None
        plan = self._plan(stack, selection)
        told = replace(plan, cells=tuple(cell for cell in plan.cells if self.enough.tells(plan.id_of(cell))))
        if told == plan or not told.cells or not self._cached(told, stack):
            return None
        self._run(told, stack, Sharing(pool, self.progress, self.enough.stop))
        return stack

    def _of(self, of: Resolved, selection: GateSelection, pool: Pool, stop: threading.Event) -> StackPython | None:
        try:
            self.shown.phase(of.stack, "making the environment")
            made = _made(of)
            plan = self._plan(made, selection) if made else None
            # Cached results are of the lock, whatever became of the environment since: only cells that run need it.
            stack = made if made and plan and self._cached(plan, made) else prepared(of, self.run)
            if stack is not None:
                self._run(plan or self._plan(stack, selection), stack, Sharing(pool, self.progress, stop))
            return stack
        finally:
            pool.leave(of.stack)
            self.shown.phase(of.stack, "")

    def _plan(self, stack: StackPython, selection: GateSelection) -> Plan:
        """The selected cells: first those that tell something that no other cell does, and of these the lowest rank."""
        device, lent = kind_of(self.gpus), stack.environment.base_torch
        whole = stack_run.plan_of(stack.name, stack.lock, self.options, self.ledger, device, base_torch=lent)
        chosen = [cell for cell in whole.cells if selection.takes(cell)]
        telling = default_tier().kept(chosen, stack.lock.sha256, device)
        self.enough.planned(map(whole.id_of, chosen), map(whole.id_of, telling))

        def place(cell: PlannedCell) -> tuple[bool, int]:
            return cell not in telling, self.ranks.get(parse_cell(whole.id_of(cell)).name, len(self.ranks))

        return replace(whole, cells=tuple(sorted(chosen, key=place)))

    def _cached(self, plan: Plan, stack: StackPython) -> bool:
        served = look_up(plan, stack.lock, stack.python, self.gpus, fresh=self.options.fresh)
        return all(cell.stored for cell in served.plan.cells)

    def _run(self, plan: Plan, stack: StackPython, sharing: Sharing) -> None:
        if not plan.cells:
            # No selected cell exists on these versions, so there is nothing to run.
            write_row(self.run, StackRow(plan.stack, RowState.RAN, "", ()))
            return
        ids = [plan.id_of(cell) for cell in plan.cells]
        expected = {cell: self.seconds.get(parse_cell(cell).name, CELL_S) for cell in ids}
        self.shown.expect(expected, at_once(this_machine(len(self.gpus))))
        self.shown.phase(plan.stack, "running cells")
        log = self.run / "logs" / f"{plan.stack}.txt"
        stack_run.run_plan(plan, stack.lock, stack.python, self.gpus, self.options, log, alone=True, sharing=sharing)

    def _drop_unfinished(self, stacks: Sequence[str]) -> None:
        """Leave only the cells in the rows that ran on both sides, and note the others."""
        _, observed = read_observations(self.run / "observations.jsonl")
        done = [{parse_cell(cell).name for cell in observed if parse_cell(cell).stack == stack} for stack in stacks]
        both = set.intersection(*done)
        for row in read_rows(self.run):
            if row.name in stacks and row.state is not RowState.UNINSTALLABLE:
                # A process that was ended before it began has no row of its own: what was planned counts.
                planned = dict.fromkeys((*row.selected, *self.enough.of(row.name)))
                kept = tuple(cell for cell in planned if parse_cell(cell).name in both)
                gone = (parse_cell(cell).name for cell in planned if cell not in kept)
                self.dropped.extend(name for name in gone if name not in self.dropped)
                write_row(self.run, StackRow(row.name, RowState.RAN, "", kept))


def _made(of: Resolved) -> StackPython | None:
    """The environment of a side, if it was made before; it is not verified."""
    if isinstance(of.lock, Unsolvable):
        return None
    made = made_environment(of.lock)
    return StackPython(of.stack, made[0], of.lock, made[1]) if made else None


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
    return replace(side_before(of), state=row.state, reason=row.reason)


def side_before(of: Resolved) -> Side:
    """A side before it ran, as if its cells ran."""
    lock = None if isinstance(of.lock, Unsolvable) else of.lock
    return Side(
        asked=of.asked,
        stack=of.stack,
        rule=of.rule,
        as_of=of.plan.as_of,
        versions={**lock.requirements, "torch": of.plan.torch} if lock else {},
        not_followed=of.not_followed,
        lock_sha256=lock.sha256 if lock else "",
        state=RowState.RAN,
        reason="",
    )
