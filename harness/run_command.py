"""`compat run`: select cells, leave out what the store has, hand the rest to `nox --parallel`, and say what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import answers, orphans, runs
from harness.answers import Answer
from harness.catalog import flow_named
from harness.checks import Outcome
from harness.devices import Gpu, kind_of
from harness.errors import CompatError, ExitCode, InstallError
from harness.ledger import Ledger, load_ledger
from harness.locks import Lock, Unsolvable, locked
from harness.matrix import ROOT, read_matrix
from harness.records import DeviceKind, Variant, cell_id
from harness.report import Summary, print_stack, print_window, publish
from harness.report.terminal import open_console
from harness.results import (
    RUNS,
    RowState,
    StackRow,
    judge_one,
    judged,
    point_latest_at,
    read_record,
    unfinished,
    write_atomically,
    write_left_out,
    write_row,
)
from harness.records import Started
from harness.scheduling.estimate import expected, loads, longest_first, stack_of
from harness.scheduling.machine import Share, share, this_machine
from harness.scheduling.priority import Task, Why, cut, edges, span_told
from harness.scheduling.progress import Follower, Progress
from harness.scheduling.selection import Asked, On, cell_filter, stacks_of
from harness.store import objects
from harness.store.kept import Past, Store
from harness.store.recipes import installed, recipes
from harness.store.sources import sources

LOOK_EVERY_S = 0.25
"""Between two looks at what the cells wrote."""

TELL_EVERY_S = 30.0
"""Between two lines of progress where there is no terminal."""

PATIENCE_S = 5.0
"""For a process to end when it is told to; then it is killed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was typed."""

    asked: Asked = Asked()
    python: str = "3.11"
    fresh: bool = False
    """Run cells that the store has, too."""
    budget_s: float | None = None
    retries: int = 0
    """Of cells the machine lost."""
    jobs: int | None = None
    options: tuple[str, ...] = ()
    """For the sessions: what follows `--` of nox."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The cells that are asked for."""

    stacks: Mapping[str, On]
    """By name, those that can be installed."""
    absent: tuple[StackRow, ...]
    """Rows of the others."""
    cells: tuple[str, ...]
    """Ids, in the order of the matrix and the catalog."""
    addresses: Mapping[str, str]
    """By cell; of stacks whose environment is there."""
    variants: Mapping[str, tuple[str, Variant]]
    """Flow and variant, by cell."""
    versions: Mapping[str, Mapping[str, str]]
    """Locked versions, by stack."""

    @property
    def rows(self) -> dict[str, tuple[str, ...]]:
        """The cells of each stack."""
        found: dict[str, list[str]] = {name: [] for name in self.stacks}
        for cell in self.cells:
            found[stack_of(cell)].append(cell)
        return {name: tuple(cells) for name, cells in found.items() if cells}


class Stopped(Exception):
    """The user, or the machine, asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def run(request: Request) -> int:
    """Run what was asked for and print what it says.

    Returns:
        HEALTHY, UNHEALTHY or COULD_NOT_TELL over everything that was selected; 128 and the signal's number if stopped.

    Raises:
        CompatError: a name, an option, a lock, the ledger or a file of results is wrong.
    """
    ledger = load_ledger()
    options = runs.parse_options(request.options)
    gpus = runs.chosen_gpus(request.options)
    selection = select(request, options, gpus)
    store = Store.configured()
    files = {} if request.fresh else _files(store, selection)
    todo = [cell for cell in selection.cells if cell not in files]
    _say(_told_first(selection, len(todo)))
    if not todo:
        return _show_again(selection, files, store, ledger)
    execution = Execution(request, selection, store, ledger, share_of(request, selection, todo, gpus, options))
    return execution.run(todo, files)


def select(request: Request, options: runs.Options, gpus: Sequence[Gpu]) -> Selection:
    """The cells that are asked for, and where the store would have them.

    Raises:
        CompatError: a name is wrong, a lock is stale, or nothing matches.
    """
    matrix, device = read_matrix(), kind_of(gpus)
    wanted = cell_filter(request.asked)
    stacks: dict[str, On] = {}
    absent: list[StackRow] = []
    cells: list[str] = []
    addresses: dict[str, str] = {}
    variants: dict[str, tuple[str, Variant]] = {}
    versions: dict[str, Mapping[str, str]] = {}
    for on in stacks_of(matrix, request.asked, request.python):
        lock = locked(matrix.plan(on.stack, on.python, device))
        if isinstance(lock, Unsolvable):
            absent.append(StackRow(on.name, RowState.UNINSTALLABLE, lock.cause, ()))
            continue
        # What the ledger lists is for the judge; addresses do not depend on it, and it takes a second for a matrix.
        plan = runs.plan_of(on.name, lock, options, Ledger(issues=()), device, base_torch=False)
        kept = [cell for cell in plan.cells if wanted(plan.id_of(cell), cell.flow, str(cell.variant))]
        plan = dataclasses.replace(plan, cells=tuple(kept))
        stacks[on.name] = on
        versions[on.name] = {**lock.requirements, "torch": lock.facts["torch"]}
        for cell in plan.cells:
            cells.append(plan.id_of(cell))
            variants[cells[-1]] = (cell.flow, cell.variant)
        with contextlib.suppress(InstallError):  # not made yet: the session makes it, and looks into the store itself
            found = recipes(plan, installed(env_python(on)), gpus, of=sources())
            addresses.update({cell: recipe.address for cell, recipe in found.items()})
    if not cells and not absent:
        raise CompatError(
            "no cell matches",
            where=f"-k {request.asked.words!r}" if request.asked.words else "compat run",
            meaning="A cell's name is such as trl0.22-py311/sft-peft-model[qwen2-nf4-gc]@cpu.",
            todo="Ask for fewer things at once.",
        )
    return Selection(stacks, tuple(absent), tuple(cells), addresses, variants, versions)


def env_python(on: On, environments: Path = ROOT / ".nox") -> Path:
    """The interpreter of the environment that nox makes for a session."""
    return environments / re.sub(r"[^a-zA-Z0-9]+", "-", on.session).strip("-") / "bin" / "python"


def share_of(
    request: Request, selection: Selection, todo: Sequence[str], gpus: Sequence[Gpu], options: runs.Options
) -> Share:
    """How the machine is shared out among the stacks of `todo`; real weights run one stack at a time unless told."""
    asked = request.jobs or (1 if options.model is not None else None)
    return share(this_machine(len(gpus)), len({stack_of(cell) for cell in todo}), asked=asked)


def _files(store: Store, selection: Selection) -> dict[str, str]:
    """The name of the file that answers each stored cell."""
    there = store.has(selection.addresses.values())
    names = objects.names(store.root, there)
    return {
        cell: " ".join(sorted(names.get(address, ["shared"])))
        for cell, address in selection.addresses.items()
        if address in there
    }


def _told_first(selection: Selection, todo: int) -> str:
    stored = len(selection.cells) - todo
    head = f"{_count(len(selection.cells), 'cell')} on {_count(len(selection.rows), 'stack')}"
    if not todo:
        return f"{head}: all of them are stored, nothing is run"
    return f"{head}: {stored:,} stored, {todo:,} to run"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _say(line: str) -> None:
    print(line, flush=True)


# ------------------------------------------------------------------------------------------------- nothing is to be run


def _show_again(selection: Selection, files: Mapping[str, str], store: Store, ledger: Ledger) -> int:
    """What the stored cells say: as it was said before, if that is provably the same question; else judged anew."""
    key, form = _question(selection, files), _form()
    answer = answers.find(key, form)
    if answer is None:
        run = runs.RUNS / runs.new_run_id()
        _write_stored(run, selection, files, store)
        _write_rows(run, selection, ())
        summary = publish(run, ledger)
        answer = Answer(run.name, int(summary.exit_code), form, _text(summary))
        answers.keep(key, answer)
    point_latest_at(RUNS / answer.run)
    sys.stdout.write(answer.text)
    sys.stdout.flush()
    return answer.exit_code


def _question(selection: Selection, files: Mapping[str, str]) -> str:
    return answers.question(
        [(cell, selection.addresses[cell], files[cell]) for cell in selection.cells], selection.absent
    )


def _form() -> str:
    """What a text is laid out for."""
    console = open_console()
    return f"{console.width} {console.color_system}"


def _text(summary: Summary) -> str:
    console = open_console()
    with console.capture() as captured:
        if len(summary.stacks) == 1:
            print_stack(summary, summary.stacks[0].name, console)
        else:
            print_window(summary, console)
    return captured.get()


def _write_stored(run: Path, selection: Selection, files: Mapping[str, str], store: Store) -> None:
    """Copy stored observations into the run: a report reads runs, and a run is whole."""
    found = store.read(selection.addresses[cell] for cell in files)
    lines = [found[selection.addresses[cell]].line for cell in files if selection.addresses[cell] in found]
    run.mkdir(parents=True, exist_ok=True)
    with (run / "observations.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_rows(run: Path, selection: Selection, todo: Iterable[str]) -> None:
    """A row for every stack. One with cells to run is unfinished until its session says otherwise."""
    running = {stack_of(cell) for cell in todo}
    for row in selection.absent:
        write_row(run, row)
    for name, cells in selection.rows.items():
        done = StackRow(name, RowState.RAN, "", cells)
        write_row(run, unfinished(name, cells) if name in running else done)


# --------------------------------------------------------------------------------------------------------- cells to run


class Execution:
    """One run with cells to run."""

    def __init__(self, request: Request, selection: Selection, store: Store, ledger: Ledger, shared: Share) -> None:
        self.request, self.selection, self.store, self.ledger, self.share = request, selection, store, ledger, shared
        self.path = RUNS / os.environ.setdefault(runs.RUN_ID, runs.new_run_id())

    def run(self, todo: Sequence[str], files: Mapping[str, str]) -> int:
        """Run the cells of `todo`, and say what they and the stored ones say."""
        past = self.store.history()
        seconds = expected(todo, {cell: known.duration_s for cell, known in past.items()})
        kept, left_out = self._within_budget(seconds, past)
        _write_stored(self.path, self.selection, files, self.store)
        _write_rows(self.path, self.selection, kept)
        self._leave_out(left_out)
        point_latest_at(self.path)
        deadline = None if self.request.budget_s is None else time.monotonic() + self.request.budget_s
        try:
            with _stoppable():
                self._rounds({cell: seconds[cell] for cell in kept}, deadline, left_out)
        except (Stopped, KeyboardInterrupt) as stop:
            return self._stopped(kept, stop.number if isinstance(stop, Stopped) else signal.SIGINT)
        summary = publish(self.path, self.ledger)
        sys.stdout.write(_text(summary))
        self._remember(summary)
        return int(summary.exit_code)

    def _rounds(self, seconds: Mapping[str, float], deadline: float | None, left_out: list[str]) -> None:
        """Run cells, and those again that the machine lost, as often as was asked for."""
        for attempt in range(self.request.retries + 1):
            if attempt:
                lost = self._lost()
                seconds = {cell: seconds.get(cell, 0.0) for cell in lost}
                if not lost or (deadline is not None and time.monotonic() >= deadline):
                    return
                _say(f"retry {attempt} of {self.request.retries}: {_count(len(lost), 'cell')} that the machine lost")
            in_time = self._hand_over(seconds, deadline)
            if not in_time:
                cut_off = self._unrecorded(seconds)
                self._leave_out([*left_out, *cut_off])
                _say(f"the budget is spent: {_count(len(cut_off), 'cell')} more left out")
                return

    def _within_budget(self, seconds: Mapping[str, float], past: Mapping[str, Past]) -> tuple[list[str], list[str]]:
        if self.request.budget_s is None:
            return list(seconds), []
        tasks = [Task(cell, seconds[cell], why) for cell, why in self._why(seconds, past).items()]
        chosen = cut(tasks, self.request.budget_s, self.share.jobs)
        if not chosen.kept:
            raise CompatError(
                f"no cell fits into {span_told(self.request.budget_s)}",
                where="--budget",
                meaning="A stack takes some seconds before its first cell.",
                todo="Give it more time, or ask for fewer cells without a budget.",
            )
        return [task.cell for task in chosen.kept], [task.cell for task in chosen.left_out]

    def _why(self, cells: Iterable[str], past: Mapping[str, Past]) -> dict[str, frozenset[Why]]:
        """Why each cell matters."""
        at_edges = self._edges(cells)
        found: dict[str, frozenset[Why]] = {}
        for cell in cells:
            known = past.get(cell)
            reasons = {
                Why.CHANGED: known is None or known.address != self.selection.addresses.get(cell),
                Why.RED: known is not None and known.outcome in (Outcome.FAIL, Outcome.INFRASTRUCTURE),
                Why.EDGE: cell in at_edges,
            }
            found[cell] = frozenset(why for why, holds in reasons.items() if holds)
        return found

    def _edges(self, cells: Iterable[str]) -> frozenset[str]:
        """Cells whose neighbour on the axis has other issues listed."""
        asked = {self.selection.variants[cell] for cell in cells}
        axes: dict[str, list[On]] = defaultdict(list)
        for on in self.selection.stacks.values():
            axes[f"{on.stack.package} {on.python}"].append(on)
        found: set[str] = set()
        for ons in axes.values():
            for flow, variant in asked:
                listed = {on.name: self._listed(on.name, flow, variant) for on in ons}
                found |= {cell_id(name, flow, variant, self._device) for name in edges(listed)}
        return frozenset(found)

    def _listed(self, stack: str, flow: str, variant: Variant) -> tuple[object, ...]:
        return self.ledger.listed(flow, variant, self._device, self.selection.versions[stack])

    @functools.cached_property
    def _device(self) -> DeviceKind:
        return DeviceKind(self.selection.cells[0].rpartition("@")[2])

    def _hand_over(self, seconds: Mapping[str, float], deadline: float | None) -> bool:
        """Have nox run these cells; whether that ended before `deadline`."""
        stacks = longest_first(loads(seconds))
        file = self.path / "cells.txt"
        write_atomically(file, "".join(f"{cell}\n" for cell in seconds))
        jobs = min(self.share.jobs, len(stacks))
        _say(self._told(seconds, len(stacks), jobs))
        command = [
            *(sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "--no-color", "-j", str(jobs), "-s"),
            *(self.selection.stacks[stack].session for stack in stacks),
            *("--", *self.request.options, "--cells", str(file), *(["--fresh"] if self.request.fresh else [])),
        ]
        progress = Progress(seconds, jobs)
        follower = Follower(self.path / "observations.jsonl")
        orphans.adopt()
        with (self.path / "nox.log").open("a") as log:
            nox = subprocess.Popen(
                command, cwd=ROOT, env=self._environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                return self._watch(nox, progress, follower, deadline)
            finally:
                end(nox)
                shutil.rmtree(self.path / "scratch", ignore_errors=True)

    def _told(self, seconds: Mapping[str, float], stacks: int, jobs: int) -> str:
        left = Progress(seconds, jobs).left_s
        return (
            f"{_count(len(seconds), 'cell')} on {_count(stacks, 'stack')}, {jobs} at once with "
            f"{_count(self._threads, 'thread')} each: about {span_told(left)}"
        )

    @property
    def _threads(self) -> int:
        """Tiny models gain nothing from a second thread, and their losses would depend on how many there are."""
        return self.share.threads if "--model" in self.request.options else 1

    def _environ(self) -> dict[str, str]:
        return {"OMP_NUM_THREADS": str(self._threads), **os.environ}

    def _watch(
        self, nox: subprocess.Popen[bytes], progress: Progress, follower: Follower, deadline: float | None
    ) -> bool:
        with Display(progress) as display:
            while True:
                over = nox.poll() is not None
                for line in follower.lines():
                    self._take(line, progress, display)
                display.refresh()
                if over:
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(LOOK_EVERY_S)

    def _take(self, line: str, progress: Progress, display: Display) -> None:
        record = read_record(line, "observations.jsonl")
        if not isinstance(record, Started):
            outcome = judge_one(record, self.ledger).outcome
            progress.ends(record.cell, record.duration_s, outcome)
            if record.cell in progress.failed:
                display.say(f"{outcome}: {record.cell}")
        elif record.end is not None:
            progress.ends(record.cell, record.end.seconds, Outcome.INFRASTRUCTURE)
            display.say(f"{Outcome.INFRASTRUCTURE}: {record.cell}, {record.end.cause}")
        else:
            progress.begins(record.cell)

    def _leave_out(self, cells: Sequence[str]) -> None:
        """Write down what the budget leaves out, and take it from what was selected: it is nobody's failure."""
        if not cells:
            return
        write_left_out(self.path, cells)
        out = frozenset(cells)
        for name, selected in self.selection.rows.items():
            rest = tuple(cell for cell in selected if cell not in out)
            if rest != selected:
                self._narrow(name, rest)

    def _narrow(self, name: str, rest: tuple[str, ...]) -> None:
        ...

    def _lost(self) -> list[str]:
        """Cells of this run that the machine lost, in the order they were selected."""
        verdicts = judged(self.path, self.ledger).verdicts
        lost = {verdict.cell for verdict in verdicts if verdict.outcome is Outcome.INFRASTRUCTURE}
        return [cell for cell in self.selection.cells if cell in lost]

    def _unrecorded(self, cells: Iterable[str]) -> list[str]:
        """Of these cells, those of which nothing is known: not begun, or ended by us."""
        results = judged(self.path, self.ledger)
        return [cell for cell in cells if cell not in results.observations]

    def _stopped(self, cells: Sequence[str], number: int) -> int:
        left = len(self._unrecorded(cells))
        _say(
            f"stopped: {_count(len(cells) - left, 'cell')} of {len(cells):,} ran and are stored; "
            f"the same command runs the other {left:,}"
        )
        return 128 + number

    def _remember(self, summary: Summary) -> None:
        """Keep the answer for when the same is asked again, unless something would then be run."""
        again = select(self.request, runs.parse_options(self.request.options), ())
