"""Decides whether a nightly run raises an alarm, and writes the text of its issue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.verdict import Kind
from finetune_compat.machine.files import refuse_directory, write_atomically
from finetune_compat.report import derive, wording
from finetune_compat.report.markdown import cause, plain, within
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import ResultKind
from finetune_compat.results.run_files import finished_run
from finetune_compat.results.summary import Summary

LARGEST = 65_000
"""Bytes: GitHub refuses an issue of more than 65,536 characters."""


def broken(summary: Summary) -> tuple[tuple[str, Group], ...]:
    """Unlisted failures of a library, and listed bugs on releases for which they are not measured: causes with their
    letters.

    Infrastructure failures, stacks that cannot be installed, and listed bugs that did not appear are not included,
    because they break no user's training. Neither is what looks like a trap or a limit of the machine on a new release.
    """
    lettered = ((wording.marker(place), group) for place, group in enumerate(summary.groups))
    return tuple(item for item in lettered if _breaks(item[1]))


def _breaks(group: Group) -> bool:
    if group.finding is ResultKind.UNMEASURED:
        return group.kind is Kind.UPSTREAM
    return group.finding in (ResultKind.UNLISTED, ResultKind.DIFFERENT)


def text(summary: Summary, found: Sequence[tuple[str, Group]], link: str) -> str:
    """The text of the issue: what broke, in at most `LARGEST` bytes. `link` is the URL of the run."""
    cells = sum(len(group.cells) for _, group in found)
    head = [
        plain(wording.alarm(cells, len(found))),
        wording.totals(summary.tally, len(summary.stacks)),
        f"<{link}>" if link else "",
    ]
    causes = [cause(letter, group) for letter, group in found]
    return within([part for part in (*head, *causes) if part], LARGEST, wording.left_out)


def alarm_command(run_name: str, body: Path, link: str, runs: Path | None = None) -> ExitCode:
    """If a library release broke training in a run, write the text of the issue to `body`.

    Returns:
        UNHEALTHY if a release broke training, HEALTHY if none did, COULD_NOT_TELL if nothing is known.

    Raises:
        UnknownName: the run does not exist.
        RecordsError: the directory is not a run, or one of its files cannot be read.
        CompatError: `body` is a directory.
    """
    run = finished_run(run_name, runs)
    refuse_directory(body, "--body", "issue.md")
    summary = derive(run, load_ledger())
    found = broken(summary)
    if found:
        write_atomically(body, text(summary, found, link))
        return ExitCode.UNHEALTHY
    # A listed bug that did not appear needs a ledger update, not an alarm.
    return ExitCode.COULD_NOT_TELL if summary.exit_code is ExitCode.COULD_NOT_TELL else ExitCode.HEALTHY
