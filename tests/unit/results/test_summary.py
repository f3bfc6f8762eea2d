"""The summary of a run: no selected cell is lost, one reason is one group, and an empty run is not healthy."""

from __future__ import annotations

import dataclasses

import builders as b
import pytest
from builders import FULL, INT8, LISTED, frozen, healthy, on_trl, ran, summary_of
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import ExitCode
from finetune_compat.contract.verdict import Kind
from finetune_compat.report import wording
from finetune_compat.results.lines import Mark
from finetune_compat.results.run_files import RowState, StackRow, unfinished
from finetune_compat.results.summary import Tally, exit_code_of
from hypothesis import given
from hypothesis import strategies as st
from report_builders import STACK, on

# -------------------------------------------------------------------------------------------------------------- order


def test_rows_are_shown_in_order_however_their_files_sort() -> None:
    """As a string, `trl0.22` sorts before `trl0.9`."""
    new, old = on("trl0.22-py311"), on("trl0.9-py311", "0.9.6")
    summary = summary_of([ran(new), ran(old)], new, old)
    assert [stack.name for stack in summary.stacks] == ["trl0.9-py311", "trl0.22-py311"]
    assert [stack.versions["trl"] for stack in summary.stacks] == ["0.9.6", "0.22.2"]


# ---------------------------------------------------------------------------------------------------------- exit codes

numbers = st.integers(0, 3)


@given(st.builds(Tally, numbers, numbers, numbers, numbers, numbers, numbers, numbers))
def test_the_exit_code_of_a_run_is_that_of_its_worst_result(tally: Tally) -> None:
    """A failure comes first, then infrastructure; healthy needs at least one healthy cell."""
    green = tally.passed + tally.refused + tally.xfailed
    if tally.failed:
        expected = ExitCode.UNHEALTHY
    elif tally.infrastructure or tally.lost or not green:
        expected = ExitCode.COULD_NOT_TELL
    else:
        expected = ExitCode.HEALTHY
    assert exit_code_of(tally) is expected


def test_a_session_that_ended_before_any_cell_is_no_cell() -> None:
    """It has its own count, next to the cells that are unknown because of it."""
    seen, lost = on("trl0.24-py311"), unfinished("trl0.23-py311", ["trl0.23-py311/sft-full[qwen2-full-gc]@cpu"])
    summary = summary_of([ran(seen), lost], seen)
    assert summary.tally == Tally(passed=1, infrastructure=1, lost=1)
    assert (summary.tally.cells, summary.exit_code) == (2, ExitCode.COULD_NOT_TELL)
    alone = summary_of([StackRow("trl0.23-py311", RowState.INFRASTRUCTURE, "pytest ended", ()), ran(seen)], seen)
    assert (alone.tally.cells, alone.exit_code) == (1, ExitCode.COULD_NOT_TELL)
    assert wording.totals(alone.tally, 2) == (
        "1 cell on 2 stacks: 1 pass, 0 xfail, 0 FAIL, 0 infrastructure. 1 session ended before any cell."
    )


def test_an_empty_run_is_not_healthy() -> None:
    """This covers no rows, rows without cells, and stacks that could not be installed."""
    nothing = StackRow(STACK, RowState.RAN, "", ())
    runs = [summary_of([]), summary_of([nothing]), summary_of([b.uninstallable(STACK)])]
    assert {summary.exit_code for summary in runs} == {ExitCode.COULD_NOT_TELL}


def test_an_uninstallable_stack_is_counted_and_changes_no_exit_code() -> None:
    """Next to a healthy stack the run is healthy, and reports that a stack is missing."""
    seen = on("trl0.24-py311")
    summary = summary_of([ran(seen), b.uninstallable("trl0.4-py311")], seen)
    assert (summary.exit_code, summary.tally) == (ExitCode.HEALTHY, Tally(passed=1, uninstallable=1))
    assert summary.exit_code_of("trl0.4-py311") is ExitCode.COULD_NOT_TELL
    with pytest.raises(KeyError):
        summary.exit_code_of("trl9.9-py311")


def test_a_session_answers_for_its_own_stack() -> None:
    """A session's exit code is that of its stack; the run's is that of all."""
    bad, good = b.learns_nothing(on(STACK)), on("trl0.24-py311")
    summary = summary_of([ran(bad), ran(good)], bad, good)
    assert summary.exit_code_of("trl0.24-py311") is ExitCode.HEALTHY
    assert summary.exit_code_of(STACK) is summary.exit_code is ExitCode.UNHEALTHY


# --------------------------------------------------------------------------------------------------------------- heat


def test_the_heat_map_counts_every_cell_once() -> None:
    """Its axes are stacks and flows; its rows add up to the stacks, and its sum is the run."""
    seen = [
        frozen(on(STACK)),
        on(STACK, variant=INT8),
        on(STACK, flow="sft-full", variant=FULL),
        on("trl0.24-py311", "0.24.0"),
    ]
    summary = summary_of([ran(*seen[:3]), ran(seen[3])], *seen)
    assert summary.flows == ("sft-peft-model", "sft-full")
    tallies = tuple(tuple(heat.tally for heat in row) for row in summary.heat)
    assert tallies == ((Tally(passed=1, failed=1), Tally(passed=1)), (Tally(passed=1), Tally()))
    assert sum(tally.cells for row in tallies for tally in row) == summary.tally.cells == 4


def test_the_heat_map_distinguishes_listed_causes() -> None:
    """Two bugs in one flow have two marks."""
    both = Ledger(
        issues=(b.issue(), b.issue(dataclasses.replace(b.FLAGSHIP, precisions=(FULL.precision,)), name="other"))
    )
    seen = [frozen(on(STACK)), frozen(on(STACK, variant=INT8)), frozen(on(STACK, variant=FULL), again=False)]
    summary = summary_of([ran(*seen)], *seen, ledger=both)
    assert [group.issues for group in summary.groups] == [("trl#3926",), ("other",)]
    assert summary.heat[0][0].listed == ((0, 2), (1, 1))


def test_flows_are_in_catalog_order() -> None:
    """The order of selection does not matter."""
    seen = [on(STACK, flow=flow.name, variant=FULL) for flow in reversed(CATALOG) if FULL in flow.variants]
    summary = summary_of([ran(*seen)], *seen)
    assert summary.flows == tuple(flow.name for flow in CATALOG if FULL in flow.variants)


# ------------------------------------------------------------------------------------------------------------- urgency


@pytest.mark.parametrize(
    ("tally", "worst"),
    [
        (Tally(failed=1, bugs=1), (Mark.FAIL, None)),
        (Tally(bugs=1, infrastructure=1), (Mark.XFAIL, Kind.UPSTREAM)),
        (Tally(traps=1, limits=1, passed=1), (Mark.XFAIL, Kind.TRAP)),
        (Tally(limits=1), (Mark.XFAIL, Kind.PLATFORM)),
        (Tally(passed=1), (Mark.PASS, None)),
    ],
)
def test_a_release_bug_is_the_most_urgent_xfail(tally: Tally, worst: tuple[Mark, Kind | None]) -> None:
    """Pages colour many cells like the most urgent one."""
    assert tally.worst == worst


def test_xfails_are_counted_by_kind() -> None:
    """A cell of several issues counts once."""
    seen = frozen(healthy(versions=on_trl("0.22.2")))
    trap = dataclasses.replace(LISTED.issues[0], id="trap", kind=Kind.TRAP)
    tallies = [
        summary_of([ran(seen)], seen, ledger=Ledger(issues=issues)).tally
        for issues in (LISTED.issues, (trap,), (trap, *LISTED.issues))
    ]
    assert tallies == [Tally(bugs=1), Tally(traps=1), Tally(bugs=1)]
    assert [tally.xfailed for tally in tallies] == [1, 1, 1]
