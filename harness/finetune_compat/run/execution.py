"""A run with cells to run: an engine runs them; this module follows their observations and prints the report of all
selected cells.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from finetune_compat.checks import Outcome
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import UNKEPT, read_plan
from finetune_compat.contract.records import Started
from finetune_compat.machine.console import form, say
from finetune_compat.machine.places import short_path
from finetune_compat.machine.units import counted
from finetune_compat.report import Summary, publish
from finetune_compat.results.lines import Mark
from finetune_compat.results.run_files import (
    RowState,
    StackRow,
    cell_of,
    how_it_ended,
    judge_one,
    judged,
    point_latest_at,
    read_observations,
    read_record,
    read_rows,
    write_left_out,
    write_row,
)
from finetune_compat.run import replay
from finetune_compat.run.cached_run import text_of, write_rows, write_stored
from finetune_compat.run.display import Display
from finetune_compat.run.estimate import START_S, expected, took
from finetune_compat.run.from_store import not_stored
from finetune_compat.run.importance import edge_cells, was_red
from finetune_compat.run.priority import Cut, Task, Why, cut, format_span
from finetune_compat.run.progress import Follower, Progress
from finetune_compat.run.replay import Answer
from finetune_compat.run.request import RunRequest, Selection, question, select, stored_files
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.remote import StoreUnreachable
from finetune_compat.store.store import Past, Store

POLL_EVERY_S = 0.25
"""Seconds between two reads of the cells' observations."""


class Running(Protocol):
    """Cells that an engine runs. Their observations appear in the run's directory."""

    @property
    def how(self) -> str:
        """What runs in parallel, and where its output is."""

    def share(self, progress: Progress) -> None:
        """Give workers that no stack waits for to stacks with cells left."""

    def over(self) -> bool:
        """Whether all have ended. Then the rows of their stacks are written."""

    def stop(self) -> None:
        """End what still runs."""


class Engine(Protocol):
    """Runs cells."""

    @property
    def at_once(self) -> int:
        """Workers in parallel."""

    @property
    def splits(self) -> bool:
        """Whether a stack may have several of them."""

    def start(self, run: Path, seconds: Mapping[str, float]) -> Running:
        """Start cells, given with their expected seconds, and return at once."""


class Stopped(Exception):
    """The run was interrupted by signal `number`."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Execution:
    """One run with cells to run."""

    def __init__(self, request: RunRequest, selection: Selection, store: Store, engine: Engine, path: Path) -> None:
        self.request, self.selection, self.store, self.engine, self.path = request, selection, store, engine, path
        self.ledger = load_ledger()
        self._signals: list[int] = []

    def run(self, todo: Sequence[str], lines: Mapping[str, str]) -> int:
        """Run the cells of `todo`, print the report of these and the cached cells, and return its exit code.

        Args:
            todo: ids of the cells to run.
            lines: cached observations by cell.

        Raises:
            CompatError: the budget is too small for any cell, or a results file cannot be read.
        """
        past = self.store.history()
        seconds = expected(todo, took(past).seconds)
        chosen = self._within_budget(seconds, past)
        kept = [task.cell for task in chosen.kept]
        left_out = [task.cell for task in chosen.left_out]
        deadline = None if self.request.budget_s is None else time.monotonic() + self.request.budget_s
        write_stored(self.path, self.selection, lines)
        write_rows(self.path, self.selection, kept, left_out)
        for line in left_out_lines(chosen.left_out, self.path):
            say(line)
        point_latest_at(self.path)
        try:
            with _signals_noted() as self._signals:
                self._rounds({cell: seconds[cell] for cell in kept}, deadline, left_out)
        except Stopped as stop:
            return self._stopped(kept, stop.number)
        for line in not_stored(sorted((self.path / UNKEPT).glob("*.txt"))):
            say(line)
        self._share()
        summary = publish(self.path, self.ledger)
        text = text_of(summary)
        self._remember_lost(summary, kept)
        self._remember(summary, text)
        sys.stdout.write(text)
        return int(summary.exit_code)

    def _rounds(self, seconds: Mapping[str, float], deadline: float | None, left_out: Sequence[str]) -> None:
        """Run cells, and retry cells lost to infrastructure failures up to `retries` times."""
        for attempt in range(self.request.retries + 1):
            if attempt:
                lost = self._lost(seconds)
                if not lost:
                    return
                seconds = {cell: seconds[cell] for cell in lost}
                cells = counted(len(lost), "cell")
                say(f"retry {attempt} of {self.request.retries}: {cells} lost to infrastructure failures")
            if not self._run(seconds, deadline):
                self._cut_off(seconds, left_out)
                return

    def _within_budget(self, seconds: Mapping[str, float], past: Mapping[str, Past]) -> Cut:
        if self.request.budget_s is None:
            return Cut(tuple(Task(cell, needs, frozenset()) for cell, needs in seconds.items()), ())
        tasks = [Task(cell, seconds[cell], why) for cell, why in self._why(seconds, past).items()]
        chosen = cut(tasks, self.request.budget_s, self.engine.at_once, splits=self.engine.splits)
        if not chosen.kept:
            raise CompatError(
                f"no cell fits into {format_span(self.request.budget_s)}",
                where="--budget",
                meaning=f"A stack takes about {START_S:.0f} s before its first cell.",
                todo="Give a longer time.",
            )
        return chosen

    def _why(self, cells: Iterable[str], past: Mapping[str, Past]) -> dict[str, frozenset[Why]]:
        """The reasons why each cell is important."""
        at_edges = edge_cells(self.selection, self.ledger, read_matrix())
        lost = self.store.lost()
        found: dict[str, frozenset[Why]] = {}
        for cell in cells:
            known = past.get(cell)
            reasons = {
                Why.CHANGED: known is None or known.address != self.selection.addresses.get(cell),
                Why.RED: was_red(known, lost.get(cell)),
                Why.EDGE: cell in at_edges,
            }
            found[cell] = frozenset(why for why, holds in reasons.items() if holds)
        return found

    def _run(self, seconds: Mapping[str, float], deadline: float | None) -> bool:
        """Run these cells; return whether they ended before `deadline`."""
        follower = Follower(self.path / "observations.jsonl")
        running = self.engine.start(self.path, seconds)
        try:
            progress = Progress(seconds, self.engine.at_once, self.engine.splits)
            stacks = {parse_cell(cell).stack for cell in seconds}
            cells = f"{counted(len(seconds), 'cell')} on {counted(len(stacks), 'stack')}"
            say(f"{cells}, {running.how}: about {format_span(progress.left_s)}")
            return self._watch(running, progress, follower, deadline)
        finally:
            running.stop()

    def _watch(self, running: Running, progress: Progress, follower: Follower, deadline: float | None) -> bool:
        with Display(progress) as display:
            while True:
                over = running.over()  # polled first, so that everything written before the end is read
                for line in follower.lines():
                    self._record(line, progress, display)
                display.refresh()
                running.share(progress)
                if self._signals:
                    raise Stopped(self._signals[0])
                if over:
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_EVERY_S)

    def _record(self, line: str, progress: Progress, display: Display) -> None:
        record = read_record(line, "observations.jsonl")
        if not isinstance(record, Started):
            outcome = judge_one(record, self.ledger).outcome
            progress.ends(record.cell, record.duration_s, outcome)
            if record.cell in progress.failed:
                display.say(f"{outcome}: {record.cell}")
        elif record.end is not None:
            progress.ends(record.cell, record.end.seconds, Outcome.INFRASTRUCTURE)
            display.say(f"{Outcome.INFRASTRUCTURE}: {record.cell}: {how_it_ended(record.end)}")
        else:
            progress.begins(record.cell)

    def _lost(self, cells: Iterable[str]) -> list[str]:
        """Cells lost to infrastructure failures: without an observation, or with an infrastructure verdict."""
        results = judged(self.path, self.ledger)
        known = {verdict.cell for verdict in results.verdicts if verdict.outcome is not Outcome.INFRASTRUCTURE}
        return [cell for cell in cells if cell not in known and parse_cell(cell).stack not in known]

    def _cut_off(self, cells: Iterable[str], left_out: Sequence[str]) -> None:
        """Add cells that the end of the budget cut off to those left out; not cells lost before it."""
        started, observed = read_observations(self.path / "observations.jsonl")
        ended = {cell for cell, record in started.items() if record.end is not None}
        cut_off = [cell for cell in cells if cell not in observed and cell not in ended]
        say(f"the budget is spent: {counted(len(cut_off), 'cell')} more left out")
        write_left_out(self.path, [*left_out, *cut_off])
        gone = frozenset(cut_off)
        for row in read_rows(self.path):
            rest = tuple(cell for cell in row.selected if cell not in gone)
            if rest != row.selected:
                write_row(self.path, StackRow(row.name, RowState.RAN, "", rest))

    def _stopped(self, cells: Sequence[str], number: int) -> int:
        _, observed = read_observations(self.path / "observations.jsonl")
        done = len(observed.keys() & set(cells))
        self._share()
        say(
            f"interrupted: {done:,} of {counted(len(cells), 'cell')} ran and are cached; "
            f"run the same command again to run the other {len(cells) - done:,}"
        )
        return 128 + number

    def _share(self) -> None:
        """Copy the cached observations of these cells to the shared store. Interrupted sessions, of this run or an
        earlier one, did not copy theirs.
        """
        if self.store.remote is None:
            return
        plans = [read_plan(path) for path in (self.path / "plans").glob("*.json")]
        ran = {cell.recipe.address for plan in plans for cell in plan.cells if cell.recipe}
        try:
            self.store.push(ran | set(self.selection.addresses.values()))
        except StoreUnreachable as error:
            say(str(error))

    def _remember_lost(self, summary: Summary, ran: Sequence[str]) -> None:
        """Store which of the cells that ran were lost to infrastructure failures, because a budget runs them first."""
        marks = {line.cell: line.mark for stack in summary.stacks for line in stack.lines}
        lost = [cell for cell in ran if marks.get(cell) is Mark.INFRASTRUCTURE]
        self.store.remember(lost=lost, observed=set(ran) & marks.keys() - set(lost))

    def _remember(self, summary: Summary, text: str) -> None:
        """Cache the answer for the same request, if the store would answer it with exactly this run."""
        if summary.left_out:
            return
        again = select(self.request, self.selection.gpus)
        files = stored_files(self.store, again)
        if len(files) == len(again.cells) and self._equals_the_store(again):
            key = question(again, files)
            replay.save(key, Answer(self.path.name, int(summary.exit_code), form(), text))

    def _equals_the_store(self, selection: Selection) -> bool:
        cached = self.store.read(selection.addresses.values())
        last: dict[str, str] = {}
        with (self.path / "observations.jsonl").open(encoding="utf-8") as file:
            for line in file:
                last[cell_of(line)] = line.rstrip("\n")
        addresses = selection.addresses.items()
        return all(address in cached and last.get(cell) == cached[address].line for cell, address in addresses)


def left_out_lines(tasks: Sequence[Task], run: Path) -> list[str]:
    """Describe the cells that a budget leaves out: their number, reasons and stacks, and the file that lists them."""
    if not tasks:
        return []
    reasons = Counter(task.reasons for task in tasks)
    stacks = Counter(parse_cell(task.cell).stack for task in tasks)
    why = ", ".join(f"{number:,} {reason}" for reason, number in reasons.most_common())
    return [
        f"left out: {counted(len(tasks), 'cell')} ({why}), listed in {short_path(run / 'left-out.txt')}",
        f"  on {', '.join(f'{stack} ({n})' for stack, n in stacks.items())}",
    ]


@contextlib.contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """In this context, the first SIGTERM or Ctrl-C is added to the list. The second has its usual effect.

    A handler that raises an exception would raise it inside an engine's library, which may swallow or wrap it.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    noted: list[int] = []

    def note(number: int, _frame: object) -> None:
        noted.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
