"""A run with cells to run: retries, budgets, and interruption."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from finetune_compat.run import execution, nox_run
from finetune_compat.run.command import run
from finetune_compat.run.priority import Task, Why
from finetune_compat.store.store import Store
from run_builders import IDS, Nox, request, stored_cells


def test_a_damaged_file_whose_cell_is_lost_too_ends_the_run_as_it_should(
    nox: Nox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known about the cell, and nothing is remembered."""
    stored_cells(monkeypatch, *IDS)[IDS[1]].write_bytes(b"")
    nox.loses = [{IDS[1]}, {IDS[1]}]
    assert (run(request()), run(request())) == (3, 3)
    assert nox.asked == [(IDS[1],)] * 2


def test_only_lost_cells_are_retried(nox: Nox) -> None:
    """Retries stop at the given number, or as soon as no cell is lost."""
    nox.loses = [{IDS[0], IDS[2]}, {IDS[2]}]
    assert run(request(retries=5)) == 0
    assert nox.asked == [IDS, (IDS[0], IDS[2]), (IDS[2],)]


def test_retries_come_to_an_end(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """A cell that is lost to the end is an infrastructure failure."""
    nox.loses = [{IDS[0]}, {IDS[0]}]
    assert run(request(retries=1)) == 3
    assert "retry 1 of 1: 1 cell lost to infrastructure failures\n" in capsys.readouterr().out


def test_a_budget_reports_what_it_leaves_out_and_is_not_healthy(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """This also holds with a single stack, and if the run is judged on another machine."""
    assert run(request(budget_s=10.3)) == 0
    (names,) = nox.asked
    left_out = sorted(set(IDS) - set(names))
    assert (len(names), (nox.run / "left-out.txt").read_text().splitlines()) == (2, left_out)
    said = capsys.readouterr().out
    assert "left out: 1 cell (1 changed)" in said
    assert "2 cells on 1 stack: 2 pass, 0 xfail, 0 FAIL, 0 infrastructure. " in said
    assert " 1 cell left out by the time budget.\n" in said
    assert "Healthy as far as it ran" in said


def test_a_budget_begins_with_lost_cells(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """A lost cell is not stored, and is remembered until it is observed."""
    nox.loses = [{IDS[2]}]
    assert run(request(fresh=True)) == 3
    assert Store.configured().lost().keys() == {IDS[2]}
    assert run(request(budget_s=9.7, fresh=True)) == 0
    assert nox.asked[-1] == (IDS[2],)
    assert "(2 changed)" in capsys.readouterr().out
    assert Store.configured().lost() == {}


@pytest.mark.parametrize("stopped", [False, True])
def test_cells_that_a_session_did_not_share_are_shared(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, stopped: bool
) -> None:
    """These are the stored cells of the request, after the run ended or was interrupted."""
    files = stored_cells(monkeypatch, *IDS[:2])
    monkeypatch.setenv("COMPAT_STORE_REMOTE", f"file://{tmp_path}/shared")
    if stopped:
        monkeypatch.setattr(nox, "poll", lambda: os.kill(os.getpid(), signal.SIGTERM))
        monkeypatch.setattr(nox_run, "end", lambda _: None)
    assert run(request()) == (143 if stopped else 0)
    assert {path.name for path in (tmp_path / "shared").rglob("*.json")} == {path.name for path in files.values()}


def test_what_a_budget_leaves_out_is_counted_by_reason_and_by_stack(tmp_path: Path) -> None:
    """The most frequent reason is first."""
    tasks = [
        Task(f"{stack}/f[{n}]@cpu", 1.0, why)
        for n, (stack, why) in enumerate(
            [("a-py311", frozenset({Why.EDGE})), ("b-py311", frozenset()), ("b-py311", frozenset())]
        )
    ]
    assert execution.left_out_lines(tasks, tmp_path) == [
        f"left out: 3 cells (2 unchanged, 1 edge of a ledger window), listed in {tmp_path}/left-out.txt",
        "  on a-py311 (1), b-py311 (2)",
    ]
    assert execution.left_out_lines([], tmp_path) == []


def test_a_path_below_the_working_directory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other is whole."""
    monkeypatch.chdir(tmp_path)
    assert execution.short_path(tmp_path / "run" / "nox.log") == "run/nox.log"
    assert execution.short_path(Path("/elsewhere/nox.log")) == "/elsewhere/nox.log"
