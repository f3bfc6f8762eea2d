"""What is done, failed and left, from a run's observations as they come."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.checks import Outcome
from finetune_compat.run.estimate import START_S
from finetune_compat.run.progress import Follower, Progress

CELLS = {"a/f[x]@cpu": 2.0, "a/g[x]@cpu": 2.0, "b/f[x]@cpu": 4.0}


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    """What was there before is not told again, and half a line waits for its other half."""
    path = tmp_path / "observations.jsonl"
    path.write_text("old\n")
    follower = Follower(path)
    assert list(follower.lines()) == []
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert list(follower.lines()) == ["one\n"]
        file.write("o\n")
        file.flush()
    assert list(follower.lines()) == ["two\n"]
    assert list(follower.lines()) == []


def test_a_file_that_is_not_there_yet_has_no_lines(tmp_path: Path) -> None:
    """The first cell makes it."""
    follower = Follower(tmp_path / "observations.jsonl")
    assert list(follower.lines()) == []
    (tmp_path / "observations.jsonl").write_text("one\n")
    assert list(follower.lines()) == ["one\n"]


def test_it_tells_what_is_done_failed_at_work_and_left() -> None:
    """A stack whose cells are all done is not at work; what is left costs its stack's start where it has not begun."""
    progress = Progress(CELLS, jobs=1)
    assert str(progress) == f"0 of 3 cells, 0 stacks running, about {2 * START_S + 8:.0f} s left"
    progress.begins("a/f[x]@cpu")
    progress.ends("a/f[x]@cpu", 2.0, Outcome.PASS)
    assert str(progress) == f"1 of 3 cells, 1 stacks running, about {START_S + 6:.0f} s left"
    progress.ends("a/g[x]@cpu", 2.0, Outcome.FAIL)
    assert (progress.failed, progress.at_work) == ({"a/g[x]@cpu": Outcome.FAIL}, 0)
    progress.ends("b/f[x]@cpu", 4.0, Outcome.INFRASTRUCTURE)
    assert str(progress) == "3 of 3 cells, 2 failed, 0 stacks running"


def test_where_workers_join_no_core_stands_idle_before_the_end() -> None:
    """Two stacks take two cores half of both, not as long as the longer."""
    cells = {**CELLS, "b/g[x]@cpu": 40.0}
    alone, joined = Progress(cells, jobs=2), Progress(cells, jobs=2, joining=True)
    for progress in (alone, joined):
        progress.begins("a/f[x]@cpu")
    assert progress.left() == {"a": 4.0, "b": START_S + 44.0}
    assert (alone.left_s, joined.left_s) == (START_S + 44.0, (START_S + 48.0) / 2)


def test_stacks_wait_as_long_as_there_are_more_than_cores_and_one_has_not_begun() -> None:
    """With a core for each none waits, though it has not begun yet."""
    assert not Progress(CELLS, jobs=2).waiting
    progress = Progress(CELLS, jobs=1)
    progress.begins("a/f[x]@cpu")
    assert progress.waiting
    progress.begins("b/f[x]@cpu")
    assert not progress.waiting


def test_a_cell_that_runs_again_counts_once() -> None:
    """What an earlier try said of it no longer counts."""
    progress = Progress(CELLS, jobs=1)
    progress.ends("a/f[x]@cpu", 2.0, Outcome.INFRASTRUCTURE)
    progress.begins("a/f[x]@cpu")
    assert (progress.done, progress.failed) == (0, {})
    progress.ends("a/f[x]@cpu", 2.0, Outcome.PASS)
    assert (progress.done, progress.failed) == (1, {})


def test_a_cell_nobody_asked_for_is_not_counted() -> None:
    """A run has other lines too: of cells of an earlier selection."""
    progress = Progress(CELLS, jobs=1)
    progress.ends("c/f[x]@cpu", 2.0, Outcome.FAIL)
    assert (progress.done, progress.failed) == (0, {})
