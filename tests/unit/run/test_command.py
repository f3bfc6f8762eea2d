"""`compat run`: what it leaves out, what it passes to nox, and what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.results.run_files import read_observations
from finetune_compat.run.command import run
from finetune_compat.store.remote import Remote, StoreUnreachable
from run_builders import IDS, SESSION, Nox, request, stored_cells


@pytest.mark.parametrize("stored_first", [True, False])
def test_a_latest_that_is_no_link_is_reported_before_anything_runs(
    nox: Nox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored_first: bool
) -> None:
    """This also holds if all cells are stored: only the link would be written."""
    if stored_first:
        stored_cells(monkeypatch, *IDS)
    (tmp_path / "runs" / "latest").mkdir(parents=True)
    with pytest.raises(CompatError, match="latest: it is not the link to the newest run"):
        run(request())
    assert nox.sessions == [] and [path.name for path in (tmp_path / "runs").iterdir()] == ["latest"]


def test_cached_cells_are_left_out_and_judged_with_the_rest(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """nox gets the one missing cell; the run has all three."""
    stored_cells(monkeypatch, *IDS[:2])
    assert run(request()) == 0
    assert (nox.sessions, nox.asked) == ([(SESSION,)], [IDS[2:]])
    assert set(read_observations(nox.run / "observations.jsonl")[1]) == set(IDS)
    said = capsys.readouterr().out
    assert said.startswith("3 cells on 1 stack: 2 cached, 1 to run\n")
    assert "3 cells on 1 stack: 3 pass" in said


def test_with_all_cells_cached_nothing_starts_and_the_report_is_repeated(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The output is the same, and the run is the same."""
    stored_cells(monkeypatch, *IDS)
    assert run(request()) == 0
    first = capsys.readouterr().out
    assert run(request()) == 0
    assert capsys.readouterr().out == first
    assert first.startswith("3 cells on 1 stack: all cached, nothing to run\n")
    assert nox.sessions == []


def test_fresh_does_not_read_the_store(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every cell is passed on, and the message about an empty store is not printed."""
    stored_cells(monkeypatch, *IDS)
    assert run(request(fresh=True)) == 0
    assert nox.asked == [IDS]
    said = capsys.readouterr().out
    assert said.startswith("3 cells on 1 stack, all to run: cached results are ignored (--fresh)\n")


@pytest.mark.parametrize("content", [b"", b"cut off", None])
def test_a_damaged_file_is_no_answer_and_its_cell_runs(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    """As in a session, it counts as missing. Otherwise the cell would be an infrastructure failure in every run."""
    file = stored_cells(monkeypatch, *IDS)[IDS[1]]
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    assert run(request()) == 0
    assert nox.asked == [(IDS[1],)]
    said = capsys.readouterr()
    assert said.out.startswith("3 cells on 1 stack: 2 cached, 1 to run\n")
    assert f"{file}: its content does not match the digest in its name" in said.err


def test_a_run_of_cached_cells_shares_them_once(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cells that were stored before there was a shared store are sent. If all are known to be there, a missing network
    is no error.
    """
    files = stored_cells(monkeypatch, *IDS)
    assert run(request()) == 0
    monkeypatch.setenv("COMPAT_STORE_REMOTE", f"file://{tmp_path}/shared")
    for said in ("3 observations copied to file://", ""):
        capsys.readouterr()
        assert run(request()) == 0
        assert capsys.readouterr().out.splitlines()[1].startswith(said)
        assert {path.name for path in (tmp_path / "shared").rglob("*.json")} == {path.name for path in files.values()}
    monkeypatch.setattr(Remote, "add", lambda *_: pytest.fail("it was asked"))
    assert run(request()) == 0
    monkeypatch.setattr(Remote, "add", unreachable)
    monkeypatch.setenv("COMPAT_STORE_REMOTE", f"file://{tmp_path}/another")
    assert run(request()) == 0
    assert "the shared store cannot be listed" in capsys.readouterr().out


def unreachable(*_: object) -> int:
    """There is no network."""
    raise StoreUnreachable("the shared store cannot be listed")
