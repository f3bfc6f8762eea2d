"""`compat run`: select cells, run those that are not cached, and print the report. The same request prints it again.

If every cell is cached, this module starts no process and does not import the modules that run, judge and render.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_compat.contract.options import EngineChoice
from finetune_compat.machine.console import form, say
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.results.run_files import point_latest_at, refuse_other_latest
from finetune_compat.run import replay, stack_run
from finetune_compat.run.replay import Answer
from finetune_compat.run.request import WHERE, RunRequest, Selection, question, select, stored_files, stored_lines
from finetune_compat.store.remote import StoreUnreachable
from finetune_compat.store.store import Store

if TYPE_CHECKING:
    from finetune_compat.run.execution import Engine

INTERRUPTED = 128
"""Exit codes above this one are those of an interrupted run."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that ended."""

    run: Path
    """Its directory, with all selected cells unless it was interrupted."""
    exit_code: int


def run(request: RunRequest) -> int:
    """The exit code of `execute`."""
    return execute(request).exit_code


def execute(request: RunRequest) -> Ended:
    """Run the selected cells that are not cached, and print the report of all selected cells.

    Returns:
        The run, and its exit code: HEALTHY, UNHEALTHY or COULD_NOT_TELL over all selected cells; `INTERRUPTED` + N if
        interrupted by signal N.

    Raises:
        CompatError: a name, a lock, the ledger or a results file is invalid.
    """
    refuse_other_latest(places().runs)
    if request.engine is EngineChoice.RAY:
        from finetune_compat.run import ray_engine

        with ray_engine.connected(request) as engine:
            return _execute(request, engine.gpus, engine)
    return _execute(request, stack_run.chosen_gpus(request.options, WHERE), None)


def _execute(request: RunRequest, gpus: Sequence[Gpu], engine: Engine | None) -> Ended:
    """As `execute`, on these GPUs; without an `engine`, with nox on this machine."""
    selection = select(request, gpus)
    store = Store.configured()
    files = {} if request.options.fresh else stored_files(store, selection)
    known = replay.find(question(selection, files), form()) if len(files) == len(selection.cells) else None
    if known is not None:
        say(_first_line(selection, 0))
        _share(store, files)
        return _show(known)
    # The files are first opened here. A damaged file has a valid name but no observation, so its cell runs again.
    lines = stored_lines(store, selection, files)
    todo = [cell for cell in selection.cells if cell not in lines]
    say(_first_line(selection, len(todo), fresh=request.options.fresh))
    if not todo:
        from finetune_compat.run import cached_run

        _share(store, files)
        return _show(cached_run.judge_stored(selection, files, lines))
    from finetune_compat.run import execution, nox_run

    run, engine = stack_run.this_run(), engine or nox_run.NoxEngine(request, selection, todo)
    return Ended(run, execution.Execution(request, selection, store, engine, run).run(todo, lines))


def _first_line(selection: Selection, todo: int, *, fresh: bool = False) -> str:
    cached = len(selection.cells) - todo
    head = f"{counted(len(selection.cells), 'cell')} on {counted(len(selection.rows), 'stack')}"
    if selection.left_out:
        head += f" (--tier full runs {selection.left_out:,} more)"
    if fresh:
        return f"{head}, all to run: cached results are ignored (--fresh)"
    if not todo:
        return f"{head}: all cached, nothing to run"
    return f"{head}: {cached:,} cached, {todo:,} to run"


def _share(store: Store, files: Mapping[str, str]) -> None:
    """Copy observations to the shared store that were made without it, or while it was unreachable."""
    try:
        number = store.share(name for names in files.values() for name in names.split())
    except StoreUnreachable as error:
        say(str(error))
    else:
        if number:
            say(f"{counted(number, 'observation')} copied to {store.remote}")


def _show(answer: Answer) -> Ended:
    """Point `latest` at the answer's run, print its text and return the run."""
    run = places().runs / answer.run
    point_latest_at(run)
    sys.stdout.write(answer.text)
    sys.stdout.flush()
    return Ended(run, answer.exit_code)
