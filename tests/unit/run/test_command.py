"""`compat run`: what it leaves out, what it passes to nox, and what it prints."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import builders as b
import pytest
from builders import UNLISTED
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import Observation, Variant, to_json
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow, read_observations, read_rows, write_row
from finetune_compat.run import nox_run, replay, stack_run
from finetune_compat.run import request as requested
from finetune_compat.run.command import run
from finetune_compat.run.nox_run import order_of, was_red
from finetune_compat.run.options import RunOptions, read_options
from finetune_compat.run.request import RunRequest
from finetune_compat.run.selection import AskedCells
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store import archive, stored_files
from finetune_compat.store.addresses import addresses, recipes
from finetune_compat.store.predicted import Predicted
from finetune_compat.store.remote import Remote, StoreUnreachable
from finetune_compat.store.store import Past, Store
from finetune_compat.store.stored_files import Stored
from store_builders import fitting

STACK = "trl0.22-py311"
CELLS = ("sft-full[qwen2-full-gc]", "sft-full[qwen2-full-nogc]", "sft-full[llama-full-gc]")
IDS = tuple(f"{STACK}/{cell}@cpu" for cell in CELLS)
SESSION = "compat-3.11(trl='0.22')"


class Nox:
    """A stand-in for nox: a session observes its cells, except those that are lost to infrastructure failures."""

    def __init__(self) -> None:
        self.sessions: list[tuple[str, ...]] = []
        self.asked: list[tuple[str, ...]] = []
        self.loses: list[set[str]] = []
        """The lost cells of each session in turn."""
        self.says = ""
        self.run = Path()

    def __call__(self, command: Sequence[str], *, stdout: object, **_: object) -> Nox:
        options = Path(command[command.index("--options") + 1])
        names = read_options(options).cells or ()
        self.run = options.parent
        self.asked.append(names)
        self.sessions.append(tuple(command[command.index("-s") + 1 : command.index("--")]))
        lost = self.loses.pop(0) if self.loses else set()
        if self.says:
            stdout.write(self.says)  # type: ignore[attr-defined]
            stdout.flush()  # type: ignore[attr-defined]
            return self
        with (self.run / "observations.jsonl").open("a") as file:
            file.writelines(f"{to_json(observed(cell))}\n" for cell in names if cell not in lost)
        for row in read_rows(self.run):
            write_row(self.run, StackRow(row.name, RowState.RAN, "", row.selected))
        return self

    def poll(self) -> int:
        return 0


def observed(cell: str, features: tuple[str, ...] = ()) -> Observation:
    """Return the observation of a healthy cell."""
    stack, _, rest = cell.partition("/")
    flow, _, variant = rest.removesuffix("@cpu").removesuffix("]").partition("[")
    found = b.healthy(flow, _variant(flow, variant), stack=stack)
    return replace(found, seed=stack_run.SEED, device=replace(found.device, features=features))


def _variant(flow: str, name: str) -> Variant:
    from finetune_compat.contract import catalog
    from finetune_compat.contract.records import DeviceKind

    cells = catalog.cells_on(DeviceKind.CPU)
    return next(variant for each, variant in cells if each.name == flow and str(variant) == name)


@pytest.fixture
def nox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Nox:
    """There is no child process, the environment is a folder of files, and runs are in the test's folder."""
    stand_in = Nox()
    site = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (site / "torch-2.13.0+cpu.dist-info").mkdir(parents=True)
    (tmp_path / "env" / "bin").mkdir()
    (tmp_path / "env" / "bin" / "python").touch()
    (tmp_path / "env" / "pyvenv.cfg").write_text("version_info = 3.11.7\n")
    monkeypatch.setattr(requested, "env_python", lambda _: tmp_path / "env" / "bin" / "python")
    monkeypatch.setattr(nox_run.subprocess, "Popen", stand_in)
    in_places(runs=tmp_path / "runs")
    monkeypatch.setattr(nox_run, "POLL_EVERY_S", 0.0)
    monkeypatch.setattr(nox_run, "load_ledger", lambda: UNLISTED)
    # A run sets both for its child processes.
    for name in ("COMPAT_RUN_ID", "COMPAT_PARENT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return stand_in


def stored_now(recipe: Recipe, seen: Observation) -> Stored:
    """Return `seen` as the store holds it, recorded now."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return Stored(recipe=recipe, line=to_json(fitting(recipe, seen)), recorded_at=now, harness="0.1.0", outcome="pass")


def stored_cells(monkeypatch: pytest.MonkeyPatch, *cells: str) -> dict[str, Path]:
    """Store these cells; return their files."""
    found: dict[str, Recipe] = {}

    def noted(*given: object, **named: object) -> object:
        found.update(recipes(*given, **named))  # type: ignore[arg-type]
        return addresses(*given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(requested, "addresses", noted)
        requested.select(request(), ())
    root = Store.configured().root
    names = {
        cell: stored_files.write(root, stored_now(found[cell], observed(cell, found[cell].features))) for cell in cells
    }
    return {cell: stored_files.path_of(root, name) for cell, name in names.items()}


def request(*, fresh: bool = False, pytest: tuple[str, ...] = (), **changes: object) -> RunRequest:
    """Request the three cells of one flow on one stack."""
    asked = AskedCells(stacks=("trl0.22",), flows=("sft-full",), variants=("*-full-*",))
    options = RunOptions(device=DeviceChoice.CPU, fresh=fresh, pytest=pytest)
    return replace(RunRequest(asked=asked, options=options), **changes)  # type: ignore[arg-type]


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


def test_predictions_of_another_run_directory_are_not_used(tmp_path: Path, in_places: Any) -> None:
    """The predicted paths do not exist here."""
    in_places(runs=tmp_path / "runs")
    (tmp_path / "summary.md").touch()
    (tmp_path / "runs" / ".answers").mkdir(parents=True)
    for name in ("..", ".", "../runs/..", 5):
        answer = {"run": name, "exit_code": 0, "form": "plain", "text": ""}
        (tmp_path / "runs" / ".answers" / "key.json").write_text(json.dumps(answer))
        assert replay.find("key", "plain") is None


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


def test_a_checkout_without_environments_finds_cached_cells(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment's packages are predicted if possible; a prediction that differs finds nothing."""
    stored_cells(monkeypatch, *IDS)
    monkeypatch.setattr(requested, "env_python", lambda _: Path("/nowhere/bin/python"))
    told: list[Predicted | None] = [Predicted("3.11.7", {"torch": "2.13.0+cpu"})]
    monkeypatch.setattr(requested, "predict", lambda *_: told[0])
    assert run(request()) == 0
    assert nox.sessions == []
    assert "all cached, nothing to run" in capsys.readouterr().out
    for told[0] in (None, Predicted("3.11.8", {"torch": "2.13.0+cpu"}), Predicted("3.11.7", {"torch": "2.13.0+cu130"})):
        assert run(request()) == 0
        assert nox.asked.pop() == IDS


def test_with_an_empty_store_uv_is_not_called(nox: Nox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a first run nor --fresh pays for a prediction that cannot help."""
    monkeypatch.setattr(requested, "env_python", lambda _: Path("/nowhere/bin/python"))
    monkeypatch.setattr(requested, "predict", lambda *_: pytest.fail("it was asked"))
    assert run(request()) == 0
    (Store.configured().root / "objects" / "00").mkdir(parents=True)
    assert run(request(fresh=True)) == 0


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


def test_a_session_that_never_began_has_a_reason(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is nox's, and the message does not say that it may still be running."""
    nox.says = f"nox > Session {SESSION} failed: Python interpreter 3.11 not found (took 11 seconds).\n"
    assert run(request()) == 3
    assert "its session ended before any cell: Python interpreter 3.11 not found\n" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("outcome", "lost", "red"),
    [
        ("pass", None, False),
        ("fail", None, True),
        ("pass", "2026-02", True),
        ("fail", "2025", True),
        ("pass", "2025", False),
    ],
)
def test_a_cell_was_red_if_it_or_the_machine_failed_last(outcome: str, lost: str | None, red: bool) -> None:
    """An observation after an infrastructure failure counts."""
    assert was_red(Past("0", 1.0, outcome, "2026-01-01"), lost) is red
    assert was_red(None, lost) is (lost is not None)


def test_a_run_is_exported_with_cached_cells_and_nox_output(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The archive has lock, observations, log and the command that repeats it, although no session of this
    stack began.
    """
    stored_cells(monkeypatch, *IDS)
    run(request(budget_s=10.3, fresh=True))
    (tmp_path / "home").mkdir()
    archive.export(nox.run, Store.configured(), tmp_path / "cut.tar.gz")
    arrived = archive.take(tmp_path / "cut.tar.gz", Store(tmp_path / "other"), tmp_path / "home")
    assert (arrived.run / "left-out.txt").read_text() == (nox.run / "left-out.txt").read_text()
    assert (arrived.run / "nox.log").is_file()

    run(request())
    shown = next(path for path in places().runs.glob("2*") if path != nox.run)
    assert archive.export(shown, Store.configured(), tmp_path / "stored.tar.gz") == len(IDS)
    home = Store(tmp_path / "home-store")
    assert archive.take(tmp_path / "stored.tar.gz", home, tmp_path / "home").objects == len(IDS)
    assert home.has(json.loads((shown / "stored.json").read_text()).values())
    _, files = archive._checked(tmp_path / "stored.tar.gz")
    assert f"locks/{STACK}.txt" in files
    again = f'nox -s "{SESSION}" -- --device cpu --cells "$FROM/cells/{STACK}.txt"'
    assert files["repro.txt"].decode().splitlines()[1:] == [again]
    assert files[f"cells/{STACK}.txt"].decode().splitlines() == list(IDS)


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


def test_the_longest_stack_starts_first_unless_time_may_run_out() -> None:
    """With a budget, the stack with the most important cell starts first."""
    seconds = {"small-py311/a[x]@cpu": 1.0, "large-py311/a[x]@cpu": 5.0, "small-py311/b[x]@cpu": 1.0}
    assert order_of(seconds, by_importance=False) == ("large-py311", "small-py311")
    assert order_of(seconds, by_importance=True) == ("small-py311", "large-py311")


class SlowNox(Nox):
    """A stand-in for nox that runs for a while and observes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[dict[str, str]] = []
        """Contents of the workers file at each poll."""
        self._looks = 0

    def __call__(self, command: Sequence[str], **named: object) -> Nox:
        self.run = Path(command[command.index("--options") + 1]).parent
        return self

    def poll(self) -> int | None:  # type: ignore[override]
        self.given.append({file.stem: file.read_text() for file in (self.run / "workers").glob("*.txt")})
        self._looks += 1
        return 0 if self._looks > 2 else None


@pytest.mark.parametrize(
    ("changes", "at_most", "workers"),
    [
        ({"asked": AskedCells(("trl0.22",))}, 4, "4"),
        ({"asked": AskedCells(("trl0.22",)), "jobs": 3}, 4, "3"),
        ({"asked": AskedCells(("trl0.22",))}, 1, None),
        ({"asked": AskedCells(("trl0.22",)), "pytest": ("-n", "1")}, 4, None),
        ({}, 4, None),
    ],
)
def test_a_core_that_no_other_stack_needs_goes_to_the_last(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], at_most: int, workers: str | None
) -> None:
    """It gets as many as fit or were requested; none where workers exist, and none for three cells."""
    slow = SlowNox()
    monkeypatch.setattr(nox_run.subprocess, "Popen", slow)
    monkeypatch.setattr(nox_run, "at_once", lambda _, asked: asked or at_most)
    monkeypatch.setattr(nox_run, "CELL_BYTES", 1)
    run(request(**changes))
    assert slow.given == [{} if workers is None else {STACK: workers}] * len(slow.given)


def test_an_edge_is_one_though_its_neighbour_was_not_asked_for() -> None:
    """Two requested stacks with others between them are no neighbours."""
    from finetune_compat.checks.ledger import load_ledger

    def at_edges(*stacks: str) -> set[str]:
        asked = request(asked=AskedCells(stacks=stacks, flows=("sft-peft-model",), variants=("qwen2-nf4-gc",)))
        selection = requested.select(asked, ())
        return set(nox_run.edge_cells(selection, load_ledger(), read_matrix())) & set(selection.cells)

    cell = "sft-peft-model[qwen2-nf4-gc]@cpu"
    assert at_edges("trl0.20") == {f"trl0.20-py311/{cell}"}
    assert at_edges("trl0.22", "trl0.24") == set()


def test_the_output_of_nox_holds_no_secret_afterwards(tmp_path: Path) -> None:
    """pip, plugins and libraries write into it."""
    (tmp_path / "nox.log").write_text(
        "Looking in indexes: https://me:hunter2hunter2@host/simple\nHF_TOKEN=hf_abcdefgh12345678x\n"
    )
    nox_run._redact_file(tmp_path / "nox.log")
    assert (tmp_path / "nox.log").read_text() == "Looking in indexes: https://REDACTED@host/simple\nHF_TOKEN=REDACTED\n"
