"""The engine of this machine: what nox is given, its log, and its end."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from finetune_compat.checks import Outcome
from finetune_compat.machine.capacity import Machine
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.run import nox_run, stack_run
from finetune_compat.run.command import run
from finetune_compat.run.progress import Progress
from finetune_compat.run.request import Selection
from finetune_compat.run.selection import AskedCells
from finetune_compat.store import archive
from finetune_compat.store.store import Store
from run_builders import IDS, SESSION, STACK, Nox, request, stored_cells


def test_a_session_that_never_began_has_a_reason(nox: Nox, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason is nox's, and the message does not say that it may still be running."""
    nox.says = f"nox > Session {SESSION} failed: Python interpreter 3.11 not found (took 11 seconds).\n"
    assert run(request()) == 3
    assert "its session ended before any cell: Python interpreter 3.11 not found\n" in capsys.readouterr().out


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
        ({}, 4, "1"),
    ],
)
def test_a_core_that_no_other_stack_needs_goes_to_the_last(
    nox: Nox, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], at_most: int, workers: str | None
) -> None:
    """It gets as many as fit or were requested; one for three cells, to which none would be worth its start; no number
    where there can be only one.
    """
    slow = SlowNox()
    monkeypatch.setattr(nox_run.subprocess, "Popen", slow)
    monkeypatch.setattr(stack_run, "tiny_at_once", lambda _: at_most)
    run(request(**changes))
    assert slow.given == [{} if workers is None else {STACK: workers}] * len(slow.given)


def running(run: Path, cores: int) -> nox_run.NoxRunning:
    """A nox that runs sessions, with so many workers in all."""
    return nox_run.NoxRunning(cast("subprocess.Popen[bytes]", None), run, "", {}, cores)


def granted(run: Path) -> dict[str, str]:
    """Return how many workers each stack may have."""
    return {file.stem: file.read_text() for file in (run / "workers").glob("*.txt")}


def many(stack: str, number: int) -> dict[str, float]:
    """Return the seconds of equal cells of a stack."""
    return {f"{stack}/sft-full[v{cell}]@cpu": 1.0 for cell in range(number)}


def test_workers_are_granted_when_no_stack_waits_and_never_taken_away(tmp_path: Path) -> None:
    """Three stacks on two cores: the third waits. When the first has ended, the others have the cores. When one has a
    cell left, its second worker has ended, and the other gets the core.
    """
    cells = [many(name, 40) for name in "abc"]
    progress = Progress({cell: needs for found in cells for cell, needs in found.items()}, cores=4, splits=True)
    two, four = running(tmp_path / "two", 2), running(tmp_path / "four", 4)
    two.share(progress)
    assert granted(tmp_path / "two") == {}
    for cell in cells[0]:
        progress.ends(cell, 1.0, Outcome.PASS)
    two.share(progress)
    assert granted(tmp_path / "two") == {}
    four.share(progress)
    assert granted(tmp_path / "four") == {"b": "2", "c": "2"}
    for cell in [*cells[1]][:39]:
        progress.ends(cell, 1.0, Outcome.PASS)
    four.share(progress)
    assert granted(tmp_path / "four") == {"b": "2", "c": "3"}


def test_sessions_that_run_at_once_get_the_gpus_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would choose others while these are busy. Tiny cells share them, as many as their memory takes."""
    gpus = tuple(Gpu(index, None, f"GPU-{index}f", f"GPU-{index}f", "A", 80 * 10**9, 72 * 10**9) for index in (0, 2))
    monkeypatch.setattr(stack_run, "this_machine", lambda _: Machine(cores=16, memory=64 * 2**30))
    selection = Selection({}, (), (), {}, {}, gpus)
    engine = nox_run.NoxEngine(request(), selection, ())
    assert engine.at_once == 8
    assert engine._visible() == {"CUDA_VISIBLE_DEVICES": "GPU-0f,GPU-2f"}


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


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        (f"nox > Session {SESSION} was successful.\n", ""),
        (f"nox > Session {SESSION} failed: no pip (took 3 seconds).\n", "no pip"),
        (f"nox > Session {SESSION} aborted: first.\nnox > Session {SESSION} failed: second\n", "second"),
        ("nox > Session compat-3.11(trl='0.23') failed: another session\n", ""),
        # The name is no expression: its dot is a dot.
        ("nox > Session compat-3x11(trl='0.22') failed: another session\n", ""),
    ],
)
def test_the_reason_of_a_session_is_the_last_that_nox_logged_of_it(log: str, reason: str) -> None:
    """Without the time it took."""
    assert nox_run.nox_reason(log, SESSION) == reason


@pytest.mark.parametrize("stubborn", [True, False])
def test_a_process_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, *, stubborn: bool) -> None:
    """SIGTERM comes first."""
    monkeypatch.setattr(nox_run, "PATIENCE_S", 0.2)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN); " if stubborn else ""
    code = f"import signal, sys, time; {ignore}print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        nox_run.end(process)
        assert process.returncode == -(signal.SIGKILL if stubborn else signal.SIGTERM)
        nox_run.end(process)  # one that has ended is left alone


@pytest.mark.parametrize(("changes", "jobs"), [({}, 2), ({"jobs": 1}, 1), ({"model": "tiny"}, 1)])
def test_real_weights_run_one_stack_at_a_time(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], jobs: int
) -> None:
    """Tiny models share the machine: here, two stacks on two cores."""
    monkeypatch.setattr(nox_run, "this_machine", lambda gpus: Machine(cores=2, memory=64 * 2**30, gpus=gpus))
    asked = request(**{key: value for key, value in changes.items() if key == "jobs"})
    if "model" in changes:
        asked = dataclasses.replace(asked, options=dataclasses.replace(asked.options, model=changes["model"]))
    assert nox_run.share_of(asked, ["a/f[x]@cpu", "b/f[x]@cpu", "b/g[x]@cpu"], ()).jobs == jobs


def test_the_output_of_nox_holds_no_secret_afterwards(tmp_path: Path) -> None:
    """pip, plugins and libraries write into it."""
    (tmp_path / "nox.log").write_text(
        "Looking in indexes: https://me:hunter2hunter2@host/simple\nHF_TOKEN=hf_abcdefgh12345678x\n"
    )
    nox_run._redact_file(tmp_path / "nox.log")
    assert (tmp_path / "nox.log").read_text() == "Looking in indexes: https://REDACTED@host/simple\nHF_TOKEN=REDACTED\n"
