"""What a run says, for people and for CI: counted once (`summary`), worded once (`wording`), rendered many times."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_compat.checks.ledger import Ledger, load_ledger
from finetune_compat.contract.errors import ExitCode, UnknownName
from finetune_compat.machine.aside import aside
from finetune_compat.machine.files import locked, refuse_directory, write_atomically
from finetune_compat.report.terminal import print_run, print_stack, print_window
from finetune_compat.results.run_files import MANY, Results, finished_run, judged, point_latest_at, verdict_lines
from finetune_compat.results.summary import Summary, summarize

__all__ = [
    "Summary",
    "derive",
    "print_run",
    "print_stack",
    "print_window",
    "publish",
    "report_command",
    "summarize",
    "summary_of",
]


def publish(run: Path, ledger: Ledger) -> Summary:
    """Judge the run as far as it has come, write its derived files, and make `latest` beside it lead to it.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run):
        with deriving(run, ledger) as (summary, _):
            pass
        point_latest_at(run)
    return summary


def summary_of(run: Path, stack: str, ledger: Ledger) -> Summary:
    """Judge one stack of the run and nothing else, and make `latest` lead to the run.

    A session asks for no more when its stack has ended: were the whole run judged after each of them, sixty stacks
    would be judged thirty times over.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run):
        point_latest_at(run)
    return summarize(judged(run, ledger, only=stack), ledger)


def derive(run: Path, ledger: Ledger) -> Summary:
    """Judge the run with `ledger` and write its derived files anew; `latest` stays where it is.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run), deriving(run, ledger) as (summary, _):
        return summary


def report_command(
    run_name: str, runs: Path | None = None, *, page: Path | None = None, cells: str | None = None
) -> ExitCode:
    """Judge a stored run again with today's ledger and checks, write its derived files anew, and print everything.

    Args:
        run_name: name or directory of the run.
        runs: where runs are.
        page: where to write a page as well; None: only the run's own.
        cells: show on that page, in full, the cells whose ids this glob pattern matches, instead of some of each cause.

    Raises:
        UnknownName: there is no such run.
        RecordsError: the directory holds no run, or a file of it cannot be read.
        CompatError: the page is to be a directory.
        MatrixError: the ledger is wrong.
    """
    run = finished_run(run_name, runs)
    if page is not None:
        refuse_directory(page, "--html", "page.html")
    ledger = load_ledger()
    with locked(run), deriving(run, ledger) as (summary, results):
        if page is not None:
            from finetune_compat.report import html

            write_atomically(page, html.render(summary, results.observations, _pattern(cells, summary)))
        print_run(summary)
    return summary.exit_code


def _pattern(cells: str | None, summary: Summary) -> Callable[[str], bool] | None:
    if cells is None:
        return None
    if not any(_matches(line.cell, cells) for stack in summary.stacks for line in stack.lines):
        raise UnknownName(
            f"no cell of this run matches {cells!r}",
            where="--cells",
            meaning="A cell's id is stack/flow[variant]@device; * stands for anything and nothing else is special.",
            todo="Such as: --cells 'trl0.22-py311/sft-peft-model[*]@cpu'",
        )
    return lambda cell: _matches(cell, cells)


def _matches(cell: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), cell) is not None


@contextlib.contextmanager
def deriving(run: Path, ledger: Ledger) -> Iterator[tuple[Summary, Results]]:
    """Judge the run and write its derived files anew. The larger ones are written beside what is done in the context;
    all of them are there at its end.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    # A session prints its stack and derives nothing: it does without these, and the template engine behind one of them.
    from finetune_compat.report import html, junit, markdown

    results = judged(run, ledger)
    summary = summarize(results, ledger)

    def pages() -> None:
        write_atomically(run / "report.html", html.render(summary, results.observations))
        write_atomically(run / "junit.xml", junit.render(summary))

    with aside(pages, worth_it=len(results.verdicts) >= MANY):
        write_atomically(run / "verdicts.jsonl", verdict_lines(results.verdicts))
        write_atomically(run / "summary.md", markdown.render(summary))
        yield summary, results
