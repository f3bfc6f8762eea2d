"""Sentences about measurements: every report of a traced stack says how many branches its cells did not take."""

from __future__ import annotations

import dataclasses
import io

import pytest
from builders import UNLISTED, healthy, ran, results_of
from finetune_compat.report import html, markdown, measurements
from finetune_compat.report.terminal import print_stack
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.run_files import Results
from finetune_compat.results.summary import Summary, summarize
from rich.console import Console

SEEN = healthy()
SAID = (
    "Not covered on this device: 37 of 1,210 device-dependent branches, and 2 only with an emulated accelerator. "
    "reports/branches/branches.md lists them."
)


def results(uncovered: Uncovered | None) -> Results:
    """A run of one stack, with or without a record of its branches."""
    found = results_of([ran(SEEN)], SEEN)
    return dataclasses.replace(found, uncovered={SEEN.stack.name: uncovered} if uncovered else {})


def on_terminal(summary: Summary) -> str:
    """The stack's report, on one line."""
    out = io.StringIO()
    print_stack(summary, SEEN.stack.name, Console(file=out, width=160, color_system=None, force_terminal=False))
    return " ".join(out.getvalue().split())


@pytest.mark.parametrize("uncovered", [Uncovered(1210, 37, 2), None])
def test_a_report_says_what_is_not_covered_if_it_is_known(uncovered: Uncovered | None) -> None:
    """On the terminal, in Markdown and on the page; without a record nothing is claimed."""
    found = results(uncovered)
    summary = summarize(found, UNLISTED)
    pages = (on_terminal(summary), markdown.render(summary), html.render(summary, found.observations))
    assert [SAID in page for page in pages] == [uncovered is not None] * 3
    assert ["Not covered" in page for page in pages] == [uncovered is not None] * 3


def test_emulation_is_named_only_where_it_covers_something() -> None:
    """With its number."""
    assert "emulated" not in measurements.uncovered(Uncovered(10, 3, 0))
