"""Reports of a run, for people and for CI. `results.summary` counts, `wording` has the texts, the others render."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_compat.checks.ledger import Ledger
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import ExitCode, UnknownName
from finetune_compat.machine.aside import aside
from finetune_compat.machine.files import locked, refuse_directory, write_atomically
from finetune_compat.report.terminal import print_run, print_stack, print_window
from finetune_compat.results.run_files import MANY, Results, finished_run, judged, point_latest_at, verdict_lines
from finetune_compat.results.summary import Summary, summarize

__all__ = [
    "Summary",
    "aged",
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
    """Judge the results that the run has so far, write its derived files, and point `latest` at the run.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run):
        with deriving(run, ledger) as (summary, _):
            pass
        point_latest_at(run)
    return summary


def summary_of(run: Path, stack: str, ledger: Ledger) -> Summary:
    """Judge one stack of the run, and point `latest` at the run.

    A session needs only its own stack. If every session judged the whole run, each of sixty stacks would be judged
    thirty times on average.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run):
        point_latest_at(run)
    return summarize(judged(run, ledger, only=stack), ledger)


def derive(run: Path, ledger: Ledger) -> Summary:
    """Judge the run with `ledger` and rewrite its derived files. `latest` does not change.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    with locked(run), deriving(run, ledger) as (summary, _):
        return summary


def report_command(
    run_name: str, runs: Path | None = None, *, page: Path | None = None, cells: str | None = None
) -> ExitCode:
    """Judge a stored run with today's ledger and checks, rewrite its derived files, and print the full report.

    Args:
        run_name: name or directory of the run.
        runs: directory of runs.
        page: file for an additional HTML page; None: only the page of the run.
        cells: glob pattern of the cell ids to show in full on that page. None: some cells of each cause.

    Raises:
        UnknownName: the run does not exist, or no cell matches `cells`.
        RecordsError: the directory is not a run, or one of its files cannot be read.
        CompatError: `page` is a directory.
        MatrixError: the ledger is invalid.
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
            meaning="A cell's id is stack/flow[variant]@device. * matches any text; no other character is special.",
            todo="Write it like this: --cells 'trl0.22-py311/sft-peft-model[*]@cpu'",
        )
    return lambda cell: _matches(cell, cells)


def _matches(cell: str, pattern: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), cell) is not None


def aged(summary: Summary) -> Summary:
    """`summary` of a committed baseline with what changed since it was measured; that of any other run unchanged.

    Raises:
        RecordsError: the digests of the baseline cannot be read.
    """
    if summary.origin is None:
        return summary
    from finetune_compat.store.age import age_of

    return dataclasses.replace(summary, age=age_of(summary.run))


@contextlib.contextmanager
def deriving(run: Path, ledger: Ledger) -> Iterator[tuple[Summary, Results]]:
    """Judge the run and rewrite its derived files. The larger files are written in parallel with the context; all files
    are complete when the context ends.

    Raises:
        RecordsError: a file of the run cannot be read.
    """
    # Imported here, because a session derives no files and does not need these modules and the template engine.
    from finetune_compat.report import html, junit, markdown

    results = judged(run, ledger)
    summary = aged(summarize(results, ledger))

    def pages() -> None:
        write_atomically(run / "report.html", html.render(summary, results.observations))
        write_atomically(run / "junit.xml", junit.render(summary))

    with aside(pages, worth_it=len(results.verdicts) >= MANY):
        write_atomically(run / "verdicts.jsonl", verdict_lines(results.verdicts))
        write_atomically(run / "summary.md", markdown.render(summary))
        yield summary, results
