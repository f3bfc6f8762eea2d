"""`compat run`: select cells, leave out what the store has, and have the rest run; or show again what was said of them.

Where nothing is to run this starts no process, and imports nothing of what runs, judges and renders.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from finetune_compat.machine.console import form, say
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.results.run_files import point_latest_at, refuse_other_latest
from finetune_compat.run import replay, stack_run
from finetune_compat.run.replay import Answer
from finetune_compat.run.request import WHERE, RunRequest, Selection, question, select, stored_files, stored_lines
from finetune_compat.store.remote import StoreUnreachable
from finetune_compat.store.store import Store


def run(request: RunRequest) -> int:
    """Run what was asked for and print what it says.

    Returns:
        HEALTHY, UNHEALTHY or COULD_NOT_TELL over everything that was selected; 128 and the signal's number if stopped.

    Raises:
        CompatError: a name, a lock, the ledger or a file of results is wrong.
    """
    refuse_other_latest(places().runs)
    selection = select(request, stack_run.chosen_gpus(request.options, WHERE))
    store = Store.configured()
    files = {} if request.options.fresh else stored_files(store, selection)
    known = replay.find(question(selection, files), form()) if len(files) == len(selection.cells) else None
    if known is not None:
        say(_told_first(selection, 0))
        _share(store, files)
        return _show(known)
    # Only now opened: a file that is damaged has a name and answers nothing, and its cell is run again.
    lines = stored_lines(store, selection, files)
    todo = [cell for cell in selection.cells if cell not in lines]
    say(_told_first(selection, len(todo), fresh=request.options.fresh))
    from finetune_compat.run import nox_run

    if not todo:
        _share(store, files)
        return _show(nox_run.judge_stored(selection, files, lines))
    return nox_run.Execution(request, selection, store).run(todo, lines)


def _told_first(selection: Selection, todo: int, *, fresh: bool = False) -> str:
    stored = len(selection.cells) - todo
    head = f"{counted(len(selection.cells), 'cell')} on {counted(len(selection.rows), 'stack')}"
    if fresh:
        return f"{head}, all to run: the store is not asked (--fresh)"
    if not todo:
        return f"{head}: all of them are stored, nothing is run"
    return f"{head}: {stored:,} stored, {todo:,} to run"


def _share(store: Store, files: Mapping[str, str]) -> None:
    """Let the others have what was run before there was a shared store, or while it was out of reach."""
    try:
        number = store.share(name for names in files.values() for name in names.split())
    except StoreUnreachable as error:
        say(str(error))
    else:
        if number:
            say(f"{counted(number, 'observation')} copied to {store.remote}")


def _show(answer: Answer) -> int:
    """Say it, or say it as it was said before."""
    point_latest_at(places().runs / answer.run)
    sys.stdout.write(answer.text)
    sys.stdout.flush()
    return answer.exit_code
