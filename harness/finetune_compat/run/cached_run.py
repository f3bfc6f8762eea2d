"""A run of cached observations: its files, its verdicts and its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.machine.console import form, open_console
from finetune_compat.machine.places import places
from finetune_compat.report import Summary, print_stack, print_window, publish
from finetune_compat.results.run_files import RowState, StackRow, unfinished, write_addresses, write_left_out, write_row
from finetune_compat.run import replay, stack_run
from finetune_compat.run.replay import Answer
from finetune_compat.run.request import Selection, question


def judge_stored(selection: Selection, files: Mapping[str, str], lines: Mapping[str, str]) -> Answer:
    """Judge cached observations, publish them as a run, and cache the answer for the same request."""
    ledger = load_ledger()
    run = places().runs / stack_run.new_run_id()
    write_stored(run, selection, lines)
    write_rows(run, selection, (), ())
    summary = publish(run, ledger)
    answer = Answer(run.name, int(summary.exit_code), form(), text_of(summary))
    replay.save(question(selection, files), answer)
    return answer


def text_of(summary: Summary) -> str:
    """The report of the run as `compat run` prints it."""
    console = open_console()
    with console.capture() as captured:
        if len(summary.stacks) == 1:
            print_stack(summary, summary.stacks[0].name, console)
        else:
            print_window(summary, console)
    return captured.get()


def write_stored(run: Path, selection: Selection, lines: Mapping[str, str]) -> None:
    """Copy cached observations into the run, because a report reads one complete run. Their addresses are also written,
    for `compat store export`.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "observations.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines.values())
    write_addresses(run, {cell: selection.addresses[cell] for cell in lines})


def write_rows(run: Path, selection: Selection, todo: Iterable[str], left_out: Sequence[str]) -> None:
    """Write a row for every stack. A stack with cells to run is unfinished until its session writes its row. Cells that
    are left out are no failure; they are listed in a separate file.
    """
    running, gone = {parse_cell(cell).stack for cell in todo}, frozenset(left_out)
    for row in selection.absent:
        write_row(run, row)
    for name, cells in selection.rows.items():
        rest = tuple(cell for cell in cells if cell not in gone)
        if name in running:
            write_row(run, unfinished(name, rest))
        elif rest:
            write_row(run, StackRow(name, RowState.RAN, "", rest))
    if left_out:
        write_left_out(run, left_out)
