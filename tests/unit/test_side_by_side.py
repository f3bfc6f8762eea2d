"""What the benchmarks make of what they measure; nothing here is timed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from side_by_side.children import timed
from side_by_side.compared import compared
from side_by_side.figures import Measured, Reported, markdown, ratio, sections
from side_by_side.simulated import STILL, simulate
from side_by_side.ways import overall, spread

from harness.checks import Outcome
from harness.comparison import Change
from harness.errors import CompatError
from harness.ledger import load_ledger
from harness.matrix import read_matrix
from harness.report import summarize
from harness.results import judged

NOTHING = Measured("two cores")


@pytest.mark.parametrize(
    ("took", "own", "told"),
    [(3.0, 1.0, "3"), (1.0, 4.0, "0.25"), (99.96, 1.0, "100"), (1234.5, 1.0, "1234"), (5.0, 4.0, "1.25")],
)
def test_a_ratio_is_how_many_times_ours(took: float, own: float, told: str) -> None:
    """Three digits; more only before the point."""
    assert ratio(took, own) == told


def test_what_was_not_measured_has_no_table() -> None:
    """An interrupted benchmark shows what there is, and never a ratio with nothing."""
    assert sections(NOTHING) == ()
    assert markdown(NOTHING) == "Measured on two cores.\n"
    assert sections(dataclasses.replace(NOTHING, plain_cold=900.0, floor=100.0)) == ()
    (only,) = sections(dataclasses.replace(NOTHING, cold=250.0, plain_parallel=500.0))
    assert [row[0] for row in only.rows] == ["compat run", "plain way, 1 stacks at once"]


def test_the_tables_as_they_are_printed() -> None:
    """Each way beside ours in times of ours; the overhead in times of the floor, beside its target."""
    seen = Measured(
        machine="two cores",
        stacks=("trl0.4", "trl1.16"),
        cells=170,
        jobs=2,
        cold=100.0,
        warm=90.0,
        unchanged=0.5,
        plain_cold=400.0,
        plain_warm=200.0,
        plain_parallel=220.0,
        floor=75.0,
        recorder=1.125,
        reports=[Reported(100, 0.5, 0.4, 90_000_000), Reported(1_100, 1.5, 1.4, 110_000_000)],
    )
    assert markdown(seen) == (
        """\
Measured on two cores. 2 stacks (trl0.4, trl1.16), 170 cells.

**Nothing installed**

| way | seconds | times `compat run` |
| --- | --- | --- |
| compat run | 100 | 1 |
| plain way, one stack after another | 400 | 4 |
| plain way, 2 stacks at once | 220 | 2.2 |

**Environments there, every cell run**

| way | seconds | times `compat run --fresh` |
| --- | --- | --- |
| compat run --fresh | 90 | 1 |
| pytest, one stack after another | 200 | 2.22 |
| floor: one import and the same flows as a script, 2 at once | 75 | 0.833 |

**Nothing changed**

| way | seconds | times `compat run` |
| --- | --- | --- |
| compat run | 0.50 | 1 |
| plain way, one stack after another | 400 | 800 |
| plain way, 2 stacks at once | 220 | 440 |
| pytest alone, environments kept | 200 | 400 |

**What the harness adds**

| what | ratio | target, at most |
| --- | --- | --- |
| `compat run --fresh` over its floor | 1.2 | 1.25 |
| a recorded flow over the same flow without a recorder | 1.12 | 1.15 |

**`compat report` on simulated cells**

| cells | seconds | of a processor | peak MB | ms a further cell | kB a further cell |
| --- | --- | --- | --- | --- | --- |
| 100 | 0.50 | 0.40 | 90 |  |  |
| 1,100 | 1.50 | 1.40 | 110 | 1.00 | 20 |
"""
    )


def test_stacks_are_spread_over_the_axis() -> None:
    """Both ends, and equal steps between; all of them if there are no more."""
    stacks = read_matrix().stacks
    assert [stacks.index(stack) for stack in spread(stacks[:9], 3)] == [0, 4, 8]
    assert spread(stacks[:9], 1) == stacks[8:9]
    assert spread(stacks[:3], 8) == stacks[:3]
    assert len(set(spread(stacks, 8))) == 8


def test_a_simulated_run_is_a_whole_run_with_failures_of_its_own(tmp_path: Path) -> None:
    """As many cells as were asked for, every one judged, some of them failing."""
    ledger = load_ledger()
    simulate(tmp_path, 3 * STILL)
    results = judged(tmp_path, ledger)
    outcomes = Counter(verdict.outcome for verdict in results.verdicts)
    assert outcomes.total() == len(results.observations) == summarize(results, ledger).tally.cells == 3 * STILL
    assert set(outcomes) == {Outcome.PASS, Outcome.XFAIL, Outcome.FAIL}
    assert outcomes[Outcome.FAIL] <= 3


def test_neighbouring_stacks_are_compared_cell_by_cell(tmp_path: Path) -> None:
    """Of two halves of a run, cells that only one of two neighbours has are coverage lost or gained."""
    simulate(tmp_path, 200)
    results = judged(tmp_path, load_ledger())
    first, second = ({cell.partition("/")[2] for cell in row.selected} for row in results.rows)
    changes = compared(results)
    assert changes.total() == len(first | second)
    assert changes[Change.LOST_COVERAGE] == len(first - second)


def test_the_recorders_cost_is_read_from_the_last_line() -> None:
    """As `-- --overhead` prints it; without that line there is nothing to show."""
    assert overall("sft 0.5 0.4 1.25\nall                    1.12   (target: at most 1.15)\n") == 1.12
    with pytest.raises(CompatError, match="no ratio over all flows"):
        overall("Killed\n")


def test_a_way_that_fails_is_no_way_to_compare_with(tmp_path: Path) -> None:
    """Its time would be short for a bad reason; its words are kept."""
    log = tmp_path / "logs" / "one.log"
    given = {"log": log, "cwd": tmp_path, "environ": {"PATH": "/usr/bin:/bin"}}
    with pytest.raises(CompatError) as raised:
        timed(["sh", "-c", "echo broken; exit 3"], **given)
    assert str(raised.value) == (
        f"{log}: sh -c echo broken; exit 3 ... ended with status 3\n"
        "A way that fails is no way to compare with.\n"
        "Read its last lines; what was measured before is in the table."
    )
    assert log.read_text(encoding="utf-8") == "broken\n"
    assert timed(["sh", "-c", "exit 3"], **given, statuses=(3,)).peak_bytes > 0
