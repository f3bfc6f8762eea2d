"""Whether a nightly run is worth waking somebody for, and what to tell them: the text of one issue, kept up to date."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune_compat.checks.ledger import load_ledger
from finetune_compat.contract.errors import ExitCode
from finetune_compat.machine.files import refuse_directory, write_atomically
from finetune_compat.report import derive, wording
from finetune_compat.report.markdown import cause, plain, within
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import Finding
from finetune_compat.results.run_files import finished_run
from finetune_compat.results.summary import Summary

LARGEST = 65_000
"""Bytes: GitHub refuses an issue of more than 65,536 characters."""


def broken(summary: Summary) -> tuple[tuple[str, Group], ...]:
    """Causes, by letter, for which a library is to blame and which are not listed.

    A machine that failed, a stack that cannot be installed and a listed bug that stayed away break nobody's training.
    """
    lettered = ((wording.marker(place), group) for place, group in enumerate(summary.groups))
    return tuple(item for item in lettered if item[1].finding in (Finding.UNLISTED, Finding.DIFFERENT))


def text(summary: Summary, found: Sequence[tuple[str, Group]], link: str) -> str:
    """The issue: what broke, in at most `LARGEST` bytes. `link` leads to the run that found it."""
    cells = sum(len(group.cells) for _, group in found)
    head = [
        plain(wording.alarm(cells, len(found))),
        wording.totals(summary.tally, len(summary.stacks)),
        f"<{link}>" if link else "",
    ]
    told = [cause(letter, group) for letter, group in found]
    return within([part for part in (*head, *told) if part], LARGEST, wording.left_out)


def alarm_command(run_name: str, body: Path, link: str, runs: Path | None = None) -> ExitCode:
    """Write to `body` what a library release broke in a run, if one did. 1: it did; 0: none did; 3: nothing is known.

    Raises:
        UnknownName: there is no such run.
        RecordsError: the directory holds no run, or a file of it cannot be read.
        CompatError: `body` is a directory.
    """
    run = finished_run(run_name, runs)
    refuse_directory(body, "--body", "issue.md")
    summary = derive(run, load_ledger())
    found = broken(summary)
    if found:
        write_atomically(body, text(summary, found, link))
        return ExitCode.UNHEALTHY
    # What is listed and stayed away is for the ledger's keeper, not for an alarm.
    return ExitCode.COULD_NOT_TELL if summary.exit_code is ExitCode.COULD_NOT_TELL else ExitCode.HEALTHY
