"""Whether a nightly run is worth waking somebody for, and what to tell them: the text of one issue, kept up to date."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_compat.report import wording
from finetune_compat.report.markdown import cause, plain, within
from finetune_compat.results.causes import Group
from finetune_compat.results.lines import Finding
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
