"""The window of a run: one line per stack, one column per flow."""

from __future__ import annotations

import builders as b
import pytest
from builders import NF4, ran, summary_of
from finetune_compat.report.terminal import print_window
from finetune_compat.results.summary import Summary
from report_builders import at, plain


def window_text(summary: Summary, width: int = 160) -> str:
    """Return the window of a run."""
    console, out = plain(width)
    print_window(summary, console)
    return out.getvalue()


def window(width: int) -> str:
    """Three releases of two flows, and one stack that could not be installed."""
    seen = [
        cell
        for minor in (21, 22, 23)
        for flow in ("sft-peft-config", "sft-peft-model-unprepared")
        for cell in [at(flow, NF4, f"trl0.{minor}-py311")]
    ]
    seen[3] = b.learns_nothing(seen[3])
    rows = [b.uninstallable("trl0.4-py311", "no solution " * 30), *(ran(*seen[i : i + 2]) for i in (0, 2, 4))]
    return window_text(summary_of(rows, *seen), width)


def test_the_window_has_one_line_per_stack_and_one_column_per_flow() -> None:
    """The marks are under their flow, in the order of releases."""
    lines = [line.split() for line in window(160).splitlines() if line.startswith("trl0.2")]
    assert lines == [
        ["trl0.21-py311", "0.22.2", "4.56.1", "0.17.1", "0.47.0", ".", "."],
        ["trl0.22-py311", "0.22.2", "4.56.1", "0.17.1", "0.47.0", ".", "F1"],
        ["trl0.23-py311", "0.22.2", "4.56.1", "0.17.1", "0.47.0", ".", "."],
    ]
    assert "unprepared" in window(160).partition("trl0.4")[0]


def test_flows_become_letters_with_a_legend_where_their_names_do_not_fit() -> None:
    """The legend is above the table."""
    assert window(60).splitlines()[1:3] == ["A sft-peft-config   B sft-peft-model-unprepared", ""]


@pytest.mark.parametrize("width", [60, 100, 160])
def test_the_window_fits(width: int) -> None:
    """The reason of a stack that did not run is truncated in the table and complete below it."""
    table, _, causes = window(width).partition("\na  ")
    assert [line for line in table.splitlines() if len(line) > width] == []
    assert "…" in table
    assert " ".join(causes.split()).count("no solution") == 30


def test_a_run_of_one_stack_has_no_window() -> None:
    """Its table has all facts."""
    seen = at()
    assert window_text(summary_of([ran(seen)], seen)) == ""


def test_an_empty_run_says_that_it_could_not_tell() -> None:
    """It does not look like a success."""
    assert "Could not tell: no cell ran." in window_text(summary_of([]))
