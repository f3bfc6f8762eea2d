"""What the benchmarks calculate from measurements; nothing is timed here."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finetune_compat.checks import Outcome
from finetune_compat.checks.comparison import Change
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.errors import CompatError
from finetune_compat.report import summarize
from finetune_compat.results.run_files import judged
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.watch.host import Interpreter
from side_by_side import CONTROLLER, WORKER, watching
from side_by_side.children import Took, sampled, timed
from side_by_side.compared import compared
from side_by_side.figures import (
    Axis,
    Lookup,
    Machine,
    Made,
    Matrix,
    Measured,
    Recorder,
    Reported,
    Reports,
    Watch,
    Whole,
    markdown,
    missed,
    ratio,
    sections,
    targets,
)
from side_by_side.session import HOST, Event, parts
from side_by_side.simulated import STILL, simulate
from side_by_side.ways import overall, spread

MACHINE = Machine("A processor", 2, 16 * 2**30)
NOTHING = Measured(MACHINE)


@pytest.mark.parametrize(
    ("took", "own", "told"),
    [(3.0, 1.0, "3"), (1.0, 4.0, "0.25"), (99.96, 1.0, "100"), (1234.5, 1.0, "1234"), (5.0, 4.0, "1.25")],
)
def test_a_ratio_is_how_many_times_ours(took: float, own: float, told: str) -> None:
    """Ratios have three significant digits; more only before the decimal point."""
    assert ratio(took, own) == told


def test_missing_measurements_are_shown_as_missing() -> None:
    """An interrupted benchmark shows what it has, and never a ratio without a measurement."""
    (only,) = sections(NOTHING)
    assert only.title == "Targets"
    assert {row[2:] for row in only.rows} == {("not measured", "")}
    assert missed(NOTHING) == ()
    cold = dataclasses.replace(NOTHING, matrix=Matrix(cold=250.0, parallel_cold=500.0, plain_warm=900.0, floor=100.0))
    _, ways = sections(cold)
    assert [row[0] for row in ways.rows] == ["compat run", "plain way, 1 stacks at once"]


def linear(*sizes: tuple[int, float, int]) -> list[Reported]:
    """Reports of this many cells, seconds and bytes."""
    return [Reported(cells, seconds, seconds, held) for cells, seconds, held in sizes]


MEASURED = Measured(
    machine=MACHINE,
    made={"axis": Made("2026-01-02", "0123456789ab", "Python 3.11.7", 0.02, 6_600.0)},
    matrix=Matrix(
        stacks=("trl0.4", "trl1.16"),
        cells=170,
        again=("trl0.4", "trl1.16"),
        again_cells=170,
        jobs=2,
        cold=100.0,
        warm=90.0,
        unchanged=0.5,
        floor=75.0,
        plain_cold=400.0,
        plain_warm=200.0,
        parallel_cold=220.0,
        parallel_warm=110.0,
    ),
    axis=Axis(stacks=31, cells=3_441, jobs=2, warm=1_200.0, floor=1_000.0),
    whole=Whole(stacks=61, cells=6_599, first=9.0, unchanged=1.5),
    reports=Reports(linear((100, 0.5, 90_000_000), (500, 0.9, 98_000_000), (1_000, 1.4, 108_000_000))),
    lookup=Lookup(10_000, 0.05, 2.0),
    recorder=Recorder("trl0.22", 1.125),
    watch=Watch("trl1.16-py311", {"tiny": [(5.0, 7.0), (5.0, 5.5), (6.0, 6.6)], "66M": [(50.0, 50.5), (50.0, 50.5)]}),
)
"""Figures that meet every target."""


def test_the_tables_as_they_are_printed() -> None:
    """Targets come first; then each way in multiples of ours, the date and the commit of the measurement."""
    assert markdown(MEASURED) == (
        """\
# Benchmarks

Made by `nox -s bench`; tests/benchmarks/side_by_side says how.

A processor, 2 cores, 16 GiB of memory, no GPU used.
The plain way beside ours: 2 stacks (trl0.4, trl1.16) with all flows, 170 cells.
The TRL axis: 31 stacks with all flows, 3,441 cells, 2 at once.

## Targets

| what | asked | measured | holds |
| --- | --- | --- | --- |
| the whole TRL axis with all flows, over its floor | at most 1.25 | 1.2 (1,200 s over 1,000 s) | yes |
| `compat run` with nothing changed, all axes | under 2 s | 1.50 s | yes |
| fresh environments: the plain way | at least 3 times ours | 4 (400 s over 100 s) | yes |
| fresh environments: the plain way, 2 stacks at once |  | 2.2 (220 s over 100 s) |  |
| nothing changed: the plain way again | at least 100 times ours | 400 (200 s over 0.50 s) | yes |
| nothing changed: the plain way again, 2 stacks at once |  | 220 (110 s over 0.50 s) |  |
| every cell of 2 stacks, over straight-line scripts |  | 1.2 (90 s over 75 s) |  |
| report of 1,000 cells | under 5 s | 1.40 s | yes |
| report of 1,000 cells: memory | under 500 MB | 108 MB | yes |
| report of 1,000 cells: later cells over earlier ones | at most 1.25: linear | time 1.00, memory 1.00 | yes |
| look-up of 10,000 addresses | under 0.5 s | 0.05 s | yes |
| a recorded flow over the same flow without a recorder | at most 1.15 (our own) | 1.12 | yes |
| a watched script over the script alone, tiny model | at most 1.2 (our own) | 1.100 (median of 3 pairs) | yes |
| a watched script over the script alone, 66M model | at most 1.02 (our own) | 1.010 (median of 2 pairs) | yes |

## Nothing installed

| way | seconds | times `compat run` |
| --- | --- | --- |
| compat run | 100 | 1 |
| plain way, one stack after another | 400 | 4 |
| plain way, 2 stacks at once | 220 | 2.2 |

## Environments there, every cell run

| way | seconds | times `compat run --fresh` |
| --- | --- | --- |
| compat run --fresh | 90 | 1 |
| plain way, one stack after another | 200 | 2.22 |
| plain way, 2 stacks at once | 110 | 1.22 |
| floor: one import and the same flows as a script, 2 at once | 75 | 0.833 |

## Nothing changed

| way | seconds | times `compat run` |
| --- | --- | --- |
| compat run | 0.50 | 1 |
| plain way, one stack after another, environments made anew | 400 | 800 |
| plain way, one stack after another, environments kept | 200 | 400 |
| plain way, 2 stacks at once, environments kept | 110 | 220 |

## `compat run`, all axes: 6,599 cells on 61 stacks, simulated observations

| what | seconds |
| --- | --- |
| every stored cell judged anew | 9.00 |
| nothing changed | 1.50 |

## `compat report` on simulated cells

| cells | seconds | of a processor | peak MB | ms a further cell | kB a further cell |
| --- | --- | --- | --- | --- | --- |
| 100 | 0.50 | 0.50 | 90 |  |  |
| 500 | 0.90 | 0.90 | 98 | 1.00 | 20 |
| 1,000 | 1.40 | 1.40 | 108 | 1.00 | 20 |

## The store

| what | seconds |
| --- | --- |
| 10,000 addresses looked up | 0.05 |
| all of their observations read and proven | 2.00 |

## Measured

| part | day | harness | took | cores of others | versions |
| --- | --- | --- | --- | --- | --- |
| axis | 2026-01-02 | 0123456789ab | 110 min | 0.02 | Python 3.11.7 |
"""
    )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"axis": Axis(31, warm=1_251.0, floor=1_000.0)}, "the whole TRL axis with all flows, over its floor"),
        ({"whole": Whole(61, 6_599, 9.0, 2.0)}, "`compat run` with nothing changed, all axes"),
        ({"matrix": Matrix(cold=100.0, plain_cold=299.0)}, "fresh environments: the plain way"),
        ({"matrix": Matrix(unchanged=1.0, plain_warm=99.0)}, "nothing changed: the plain way again"),
        ({"lookup": Lookup(10_000, 0.5)}, "look-up of 10,000 addresses"),
        ({"reports": Reports(linear((10_000, 5.0, 1)))}, "report of 10,000 cells"),
        ({"reports": Reports(linear((10_000, 1.0, 500_000_000)))}, "report of 10,000 cells: memory"),
        (
            {"reports": Reports(linear((100, 0.1, 100), (500, 0.5, 500), (1_000, 1.2, 1_000)))},
            "report of 1,000 cells: later cells over earlier ones",
        ),
    ],
)
def test_a_target_that_is_missed_is_named(changes: dict[str, Any], what: str) -> None:
    """Each missed target is named alone, and has a NO in the table."""
    seen = dataclasses.replace(MEASURED, **changes)
    assert [target.what for target in missed(seen)] == [what]
    assert f"| {what} |" in next(line for line in markdown(seen).splitlines() if line.endswith("| NO |"))


def fresh(stack: str, cells: int, ours: float, plain: float) -> Matrix:
    """A comparison that makes environments."""
    return Matrix(stacks=(stack,), cells=cells, cold=ours, plain_cold=plain, parallel_cold=plain / 2)


def there(stack: str, cells: int, ours: float, plain: float) -> Matrix:
    """A comparison with existing environments."""
    return Matrix(
        again=(stack,), again_cells=cells, warm=ours, floor=ours - 1, plain_warm=plain, parallel_warm=plain / 2
    )


def test_parts_of_a_matrix_add_up_but_for_what_is_one_command() -> None:
    """Stacks, cells and seconds add up; `compat run` without changes is timed over all of them."""
    whole = Matrix(jobs=2, unchanged=0.5)
    for more in (fresh("a", 7, 10, 30), there("a", 7, 9, 20), fresh("b", 8, 11, 34), there("b", 8, 10, 22)):
        whole = whole.with_more(more)
    assert whole == Matrix(
        stacks=("a", "b"),
        cells=15,
        again=("a", "b"),
        again_cells=15,
        jobs=2,
        cold=21,
        warm=19,
        unchanged=0.5,
        floor=17,
        plain_cold=64,
        plain_warm=42,
        parallel_cold=32,
        parallel_warm=21,
    )


def test_an_interrupted_matrix_compares_like_with_like() -> None:
    """The figures of one stack are not compared with the figures of two."""
    whole = Matrix(jobs=2, unchanged=0.5)
    for more in (fresh("a", 7, 10, 30), there("a", 7, 9, 20), fresh("b", 8, 11, 34)):
        whole = whole.with_more(more)
    text = markdown(dataclasses.replace(MEASURED, matrix=whole))
    assert "2 stacks (a, b) with all flows, 15 cells.\n" in text
    assert "With environments there, and with nothing changed, 1 of them (a), 7 cells: it was interrupted." in text
    assert "| every cell of 1 stack, over straight-line scripts |  | 1.12 (9.00 s over 8.00 s) |  |" in text
    assert "environments kept |" in text and "environments made anew |" not in text


def test_a_figure_without_a_target_is_no_failure() -> None:
    """The recorder's cost has a NO in the table and is no failure."""
    seen = dataclasses.replace(MEASURED, recorder=Recorder("trl0.22", 1.5))
    assert missed(seen) == ()
    assert markdown(seen).count("| NO |") == 1


def test_a_part_measured_under_load_is_named() -> None:
    """Its seconds differ from those of an idle machine."""
    busy = {"matrix": dataclasses.replace(MEASURED.made["axis"], others=0.5)}
    line = "Measured beside other work on the machine, and to be measured again: matrix."
    assert line in markdown(dataclasses.replace(MEASURED, made=busy)).splitlines()
    assert line not in markdown(MEASURED).splitlines()


def test_omitted_flows_are_reported() -> None:
    """The note is at every figure that covers only some flows."""
    seen = dataclasses.replace(MEASURED, axis=Axis(31, "sft-full,grpo", 62, 2, 120.0, 100.0))
    assert "The TRL axis: 31 stacks with the flows sft-full and grpo alone, 62 cells, 2 at once." in markdown(seen)
    assert targets(seen)[0].what == "the whole TRL axis with the flows sft-full and grpo alone, over its floor"
    seen.axis.of = 40
    assert targets(seen)[0].what.startswith("31 of the 40 stacks of the TRL axis with the flows ")


def test_the_parts_of_a_session_are_all_of_it() -> None:
    """Each part goes from one mark to the next; the recorder is what flows take beyond a plain script."""
    marks = [
        (0, HOST, "start"),
        (2, HOST, "nox > Running session compat-3.11(trl='0.22')"),
        (3, HOST, "environment reused in 0.2 s from trl0.22-py311.txt"),
        (4, CONTROLLER, "process"),
        (5, WORKER, "process"),
        (6, WORKER, "import"),
        (10, WORKER, "cell one"),
        (12, WORKER, "between cells"),
        (13, WORKER, "cell two"),
        (15, WORKER, "between cells"),
        (16, WORKER, "end"),
        (17, CONTROLLER, "ended"),
        (19, HOST, "nox > Session compat-3.11(trl='0.22') was successful in 17 seconds."),
        (20, HOST, "exit"),
    ]
    found = parts([Event(float(at), who, what) for at, who, what in marks], flows=3.0)
    assert [seconds for _, seconds in found] == [2, 1, 1, 2, 4, 3, 1, 2, 1, 2, 1]
    assert sum(seconds for _, seconds in found) == 20
    with pytest.raises(CompatError, match="said nothing of 'import'"):
        parts([Event(float(at), who, what) for at, who, what in marks if what != "import"], flows=3.0)


def test_stacks_are_spread_over_the_axis() -> None:
    """Both ends are chosen, with equal steps between them; all stacks if there are no more."""
    stacks = read_matrix().stacks
    assert [stacks.index(stack) for stack in spread(stacks[:9], 3)] == [0, 4, 8]
    assert spread(stacks[:9], 1) == stacks[8:9]
    assert spread(stacks[:3], 8) == stacks[:3]
    assert len(set(spread(stacks, 8))) == 8


def test_a_simulated_run_is_a_whole_run_with_failures_of_its_own(tmp_path: Path) -> None:
    """It has as many cells as requested, all judged, and some of them fail."""
    ledger = load_ledger()
    simulate(tmp_path, 3 * STILL)
    results = judged(tmp_path, ledger)
    outcomes = Counter(verdict.outcome for verdict in results.verdicts)
    assert outcomes.total() == len(results.observations) == summarize(results, ledger).tally.cells == 3 * STILL
    assert set(outcomes) == {Outcome.PASS, Outcome.XFAIL, Outcome.FAIL}
    assert outcomes[Outcome.FAIL] <= 3


def test_neighbouring_stacks_are_compared_cell_by_cell(tmp_path: Path) -> None:
    """Between two halves of a run, cells of only one neighbour are coverage lost or gained."""
    simulate(tmp_path, 328)  # `latest`, which has no neighbour, and two stacks of one axis
    results = judged(tmp_path, load_ledger())
    first, second = ({cell.partition("/")[2] for cell in row.selected} for row in results.rows if "peft" in row.name)
    changes = compared(results)
    assert changes.total() == len(first | second)
    assert changes[Change.LOST_COVERAGE] == len(first - second)


def test_the_recorders_cost_is_read_from_the_last_line() -> None:
    """`-- --overhead` prints the line; without it there is nothing to show."""
    assert overall("sft 0.5 0.4 1.25\nall                    1.12   (target: at most 1.15)\n") == 1.12
    with pytest.raises(CompatError, match="no ratio over all flows"):
        overall("Killed\n")


def test_a_way_that_fails_is_no_way_to_compare_with(tmp_path: Path) -> None:
    """The time of a failed way would be short for the wrong reason; its output is saved."""
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
    assert timed(["sh", "-c", "exit 3"], **given, statuses=(3,)).seconds > 0


def test_the_memory_of_all_processes_counts(tmp_path: Path) -> None:
    """A process that holds 50 MB and starts another such process counts more than either."""
    child = "import time; held = bytearray(b'1' * 50_000_000); time.sleep(0.5)"
    code = (
        "import subprocess, sys; held = bytearray(b'1' * 50_000_000); "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    with sampled() as peak:
        timed([sys.executable, "-c", code], log=tmp_path / "log", cwd=tmp_path, environ={"PATH": "/usr/bin:/bin"})
    assert 100_000_000 < peak[0] < 250_000_000


def test_a_script_alone_and_watched_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each pair has both; the watched script runs in the environment of the script alone."""
    asked: list[str] = []

    def timed(command: list[str], **_: Any) -> Took:
        asked.append(f"alone {command[-1]}")
        return Took(9.0, 2.0)

    def run_pipeline(given: list[str], interpreter: Interpreter) -> Any:
        asked.append(f"watched {given[-1]} {os.environ['OMP_NUM_THREADS']}")
        clock.append(clock[-1] + 3.0)
        return SimpleNamespace(error=None, runs=[SimpleNamespace(seen=SimpleNamespace(training="seen"))])

    clock = [0.0]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(watching, "timed", timed)
    monkeypatch.setattr(watching, "run_pipeline", run_pipeline)
    monkeypatch.setattr(watching, "_of_children", lambda: clock[-1])
    found = watching.pairs(Interpreter("trl1.16", Path("python")), tmp_path, lambda _: None, {"tiny": 2})
    assert found == {"tiny": [(2.0, 3.0), (2.0, 3.0)]}
    assert asked == ["alone tiny", "watched tiny 1"] * 2
    assert os.environ["OMP_NUM_THREADS"] == "8"


def test_a_watch_that_sees_no_training_has_no_cost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would be cheap for the wrong reason."""
    monkeypatch.setattr(watching, "timed", lambda *_, **__: Took(1.0, 1.0))
    monkeypatch.setattr(watching, "run_pipeline", lambda *_: SimpleNamespace(error="no memory", runs=[]))
    with pytest.raises(CompatError, match="no training") as caught:
        watching.pairs(Interpreter("trl1.16", Path("python")), tmp_path, lambda _: None, {"tiny": 1})
    assert "no memory" in str(caught.value)
