"""The engine of `compat run` on this machine: `nox --parallel`.

nox starts the sessions of noxfile.py, with parallel stacks in the given order, and pytest-xdist starts the workers.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.plan import WORKERS, workers_file
from finetune_compat.contract.redaction import redact_here
from finetune_compat.machine import child_processes, scratch
from finetune_compat.machine.capacity import Share, share, this_machine
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.gpus import Gpu, as_given
from finetune_compat.machine.places import OUT, places, short_path
from finetune_compat.machine.units import counted
from finetune_compat.results.run_files import read_rows, unfinished, write_row
from finetune_compat.run import stack_run
from finetune_compat.run.estimate import cells_longest_first, order_of
from finetune_compat.run.options import OPTIONS_FILE, write_options
from finetune_compat.run.progress import Progress
from finetune_compat.run.request import RunRequest, Selection
from finetune_compat.run.workers import shared_out

NOX_LOG = "nox.log"
"""File in the run's directory with the output of the sessions."""

PATIENCE_S = 5.0
"""Seconds from SIGTERM to SIGKILL."""


class NoxEngine:
    """Runs the cells of a request on this machine."""

    def __init__(self, request: RunRequest, selection: Selection, todo: Sequence[str]) -> None:
        self.request, self.selection = request, selection
        self.share = share_of(request, todo, selection.gpus)
        self.splits = stack_run.may_share(request.options)
        self.at_once = self.share.jobs
        if self.splits:
            self.at_once = request.jobs or stack_run.tiny_at_once(selection.gpus)

    def start(self, run: Path, seconds: Mapping[str, float]) -> NoxRunning:
        """Start nox with the sessions of these cells."""
        by_importance = self.request.budget_s is not None
        stacks = order_of(seconds, by_importance=by_importance)
        file = run / "options.json"
        in_turn = by_importance or (self.at_once if self.splits else len(self.selection.gpus)) == 1
        cells = seconds if in_turn else cells_longest_first(seconds)
        options = dataclasses.replace(self.request.options, cells=tuple(cells))
        if self.selection.gpus:
            options = dataclasses.replace(options, gpus=as_given(len(self.selection.gpus)))
        write_options(options, file)
        jobs = min(self.at_once, len(stacks))
        shutil.rmtree(run / WORKERS, ignore_errors=True)  # of an earlier round
        if self.splits and self.at_once > 1:
            for stack in stacks:  # with this file, a session lets workers join
                write_atomically(workers_file(run, stack), "1")
        child_processes.adopt()
        with (run / NOX_LOG).open("a") as log:
            process = subprocess.Popen(
                self._command(stacks, file, jobs),
                # nox changes to the directory of its file, and this path may be relative to the current directory.
                env={"OMP_NUM_THREADS": str(self._threads), **os.environ, OUT: str(places().runs), **self._visible()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach this process only, which ends the others.
                start_new_session=True,
            )
        how = f"{jobs} in parallel with {counted(self._threads, 'thread')} each, output: {short_path(run / NOX_LOG)}"
        running = NoxRunning(
            process,
            run,
            how,
            {name: on.session for name, on in self.selection.stacks.items()},
            cores=self.at_once if self.splits else 0,
        )
        running.share(Progress(seconds, self.at_once, self.splits))
        return running

    def _command(self, stacks: Sequence[str], options: Path, jobs: int) -> list[str]:
        return [
            *(sys.executable, "-m", "nox", "-f", str(places().noxfile), "--no-color", "-j", str(jobs), "-s"),
            *(self.selection.stacks[stack].session for stack in stacks),
            *("--", OPTIONS_FILE, str(options)),
        ]

    @property
    def _threads(self) -> int:
        """Threads per stack. Tiny models use one: more threads are not faster, and change the last digits of a loss."""
        return 1 if self.request.options.model is None else self.share.threads

    def _visible(self) -> dict[str, str]:
        """The GPUs of this run for its sessions, which would choose others while these are busy."""
        gpus = self.selection.gpus
        return {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in gpus)} if gpus else {}


@dataclasses.dataclass(frozen=True, slots=True)
class NoxRunning:
    """A nox that runs sessions."""

    process: subprocess.Popen[bytes]
    run: Path
    how: str
    sessions: Mapping[str, str]
    """By stack."""
    cores: int = 0
    """Workers at once, if a stack may have several; else 0."""
    _granted: dict[str, int] = dataclasses.field(default_factory=dict)
    """Workers that each stack may have; one if it is missing."""

    def share(self, progress: Progress) -> None:
        """Write for the sessions how many workers their stacks may have now. A stack that waits for a core gets it."""
        cells = progress.left()
        if len(cells) > self.cores:
            return
        left = {stack: sum(seconds.values()) for stack, seconds in cells.items()}
        # A worker without a cell has ended.
        now = {stack: min(self._granted.get(stack, 1), len(seconds)) for stack, seconds in cells.items()}
        for stack, number in shared_out(left, now, self.cores).items():
            if number > self._granted.get(stack, 1):
                self._granted[stack] = number
                write_atomically(workers_file(self.run, stack), f"{number}")

    def over(self) -> bool:
        """Whether nox has ended. Then every row has the reason why its session ran no cell."""
        if self.process.poll() is None:
            return False
        self._explain()
        return True

    def stop(self) -> None:
        """End nox and its sessions."""
        end(self.process)
        _redact_file(self.run / NOX_LOG)
        scratch.sweep(places().runs)  # removes the scratch of sessions that were killed

    def _explain(self) -> None:
        """If a session ended before it wrote its stack's row, write the reason that nox logged into the row."""
        log = (self.run / NOX_LOG).read_text(encoding="utf-8", errors="replace")
        for row in read_rows(self.run):
            session = self.sessions.get(row.name)
            reason = "" if session is None else nox_reason(log, session)
            if reason and row == unfinished(row.name, row.selected):
                write_row(self.run, dataclasses.replace(row, reason=f"its session ended before any cell: {reason}"))


def _redact_file(path: Path) -> None:
    """Remove secrets from the output of nox: it has that of pip, of plugins and of libraries."""
    text = path.read_text(encoding="utf-8", errors="replace")
    shown = redact_here(text)
    if shown != text:
        write_atomically(path, shown)


def nox_reason(log: str, session: str) -> str:
    """The last reason in nox's log why a session ended, such as `Python interpreter 3.12 not found`; empty if none."""
    reasons = re.findall(rf"^nox > Session {re.escape(session)} (?:failed|aborted): (.*)$", log, re.MULTILINE)
    return re.sub(r" \(took [^)]*\)\.$", "", reasons[-1]) if reasons else ""


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process. Its children that called `end_with_parent` end with it (`machine.child_processes`)."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def share_of(request: RunRequest, todo: Sequence[str], gpus: Sequence[Gpu]) -> Share:
    """How the stacks of `todo` share the machine. Default with real weights: one stack at a time."""
    asked = request.jobs or (1 if request.options.model is not None else None)
    return share(this_machine(len(gpus)), len({parse_cell(cell).stack for cell in todo}), asked=asked)
