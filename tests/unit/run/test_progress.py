"""Finished, failed and remaining cells, read from a run's observations while it runs."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.checks import Outcome
from finetune_compat.run.estimate import START_S
from finetune_compat.run.progress import Follower, Progress

CELLS = {"a/f[x]@cpu": 2.0, "a/g[x]@cpu": 2.0, "b/f[x]@cpu": 4.0}


def test_lines_are_read_once_and_whole(tmp_path: Path) -> None:
    """Existing lines are not reported again, and an incomplete line waits for its end."""
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
    """The first cell creates it."""
    follower = Follower(tmp_path / "observations.jsonl")
    assert list(follower.lines()) == []
    (tmp_path / "observations.jsonl").write_text("one\n")
    assert list(follower.lines()) == ["one\n"]


def test_it_counts_finished_failed_running_and_remaining_cells() -> None:
    """A stack whose cells are all finished is not running; a stack that has not begun costs its start."""
    progress = Progress(CELLS, cores=1)
    assert str(progress) == f"0 of 3 cells, 0 stacks running, about {2 * START_S + 8:.0f} s left"
    progress.begins("a/f[x]@cpu")
    progress.ends("a/f[x]@cpu", 2.0, Outcome.PASS)
    assert str(progress) == f"1 of 3 cells, 1 stacks running, about {START_S + 6:.0f} s left"
    progress.ends("a/g[x]@cpu", 2.0, Outcome.FAIL)
    assert (progress.failed, progress.at_work) == ({"a/g[x]@cpu": Outcome.FAIL}, 0)
    progress.ends("b/f[x]@cpu", 4.0, Outcome.INFRASTRUCTURE)
    assert str(progress) == "3 of 3 cells, 2 failed, 0 stacks running"


def test_what_is_left_is_divided_among_the_cores_if_stacks_have_several() -> None:
    """It never takes less than the longest cell. Without several workers, it takes as long as the longest stack."""
    progress = Progress(CELLS, cores=2, splits=True)
    progress.begins("a/f[x]@cpu")
    assert progress.left() == {"a": {"a/f[x]@cpu": 2.0, "a/g[x]@cpu": 2.0}, "b": {"b/f[x]@cpu": 4.0}}
    assert progress.left_s == (START_S + 8) / 2
    assert Progress(CELLS, cores=100, splits=True).left_s == START_S + 4
    alone = Progress(CELLS, cores=2)
    alone.begins("a/f[x]@cpu")
    assert alone.left_s == START_S + 4


def test_a_cell_that_runs_again_counts_once() -> None:
    """The result of an earlier try no longer counts."""
    progress = Progress(CELLS, cores=1)
    progress.ends("a/f[x]@cpu", 2.0, Outcome.INFRASTRUCTURE)
    progress.begins("a/f[x]@cpu")
    assert (progress.done, progress.failed) == (0, {})
    progress.ends("a/f[x]@cpu", 2.0, Outcome.PASS)
    assert (progress.done, progress.failed) == (1, {})


def test_a_cell_that_was_not_requested_is_not_counted() -> None:
    """A run may have cells of an earlier selection."""
    progress = Progress(CELLS, cores=1)
    progress.ends("c/f[x]@cpu", 2.0, Outcome.FAIL)
    assert (progress.done, progress.failed) == (0, {})
