"""One compat session, with stand-ins for the environment and the cells."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from finetune_compat import nox_session
from finetune_compat.contract.errors import (
    CompatError,
    EnvironmentMismatch,
    ExitCode,
    InstallError,
    RegistryUnreachable,
    Unbuildable,
)
from finetune_compat.results.run_files import RowState
from finetune_compat.run import stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks import locks
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock, Unsolvable, read_lock
from finetune_compat.stacks.matrix import LockPlan, Matrix, parse_matrix
from finetune_compat.stacks.supply import Supply
from gpu_builders import machine_with
from stack_builders import BODY, NO_SOLUTION, document, lock_plan, row

MATRIX = parse_matrix(document(row()))
ENV = Path("/env/bin/python")


class Stage:
    """What the session requested from the functions it calls."""

    def __init__(self, lock: Lock) -> None:
        self.lock: Lock | Unsolvable = lock
        self.planned: list[str] = []
        self.prepared: list[dict[str, Any]] = []
        self.ran: list[dict[str, Any]] = []
        self.absent: list[tuple[str, RowState, str]] = []
        self.error: CompatError | None = None

    def locked(self, asked: LockPlan) -> Lock | Unsolvable:
        self.planned.append(asked.name)
        return self.lock

    def prepare(self, python: Path, lock: Lock, torch: str, supply: Supply) -> Environment:
        self.prepared.append({"python": python, "torch": torch, "supply": supply})
        if self.error is not None:
            raise self.error
        return Environment("2.11.0", base_torch=supply.base is not None, reused=False)

    def run(self, **asked: Any) -> ExitCode:
        self.ran.append(asked)
        return ExitCode.HEALTHY

    def session(self, *posargs: str, matrix: Matrix = MATRIX) -> ExitCode | Unsolvable:
        return nox_session.run_compat(matrix, matrix.stacks[0], "3.11", ENV, posargs, alone=True)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A machine without a GPU, where every step succeeds."""
    path = tmp_path / "trl0.22-py311.txt"
    path.write_text(locks._render(lock_plan(), BODY, packages="2"))
    stage = Stage(read_lock(path))
    monkeypatch.setattr(nox_session, "locked", stage.locked)
    monkeypatch.setattr(nox_session, "prepare_environment", stage.prepare)
    monkeypatch.setattr(nox_session, "run_stack", stage.run)
    monkeypatch.setattr(stack_run, "record_absent", lambda *row: stage.absent.append(row))
    machine_with(monkeypatch, 0)
    return stage


class TestRunning:
    def test_the_cells_run_in_the_environment_of_the_lock(self, stage: Stage) -> None:
        """Options that the session does not know reach the cells unchanged."""
        assert stage.session("-k", "sft-peft-model", "-x") is ExitCode.HEALTHY
        assert stage.planned == ["trl0.22-py311"]
        assert stage.prepared == [{"python": ENV, "torch": "2.13.0", "supply": Supply()}]
        assert stage.ran == [
            {
                "stack": MATRIX.stacks[0],
                "python": "3.11",
                "lock": stage.lock,
                "env_python": ENV,
                "base_torch": False,
                "gpus": (),
                "options": RunOptions(pytest=("-k", "sft-peft-model", "-x")),
                "alone": True,
            }
        ]

    def test_the_environment_is_reported_in_one_line(self, stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
        """The line says whether it was made or reused, how long it took, and from which lock and torch."""
        stage.session()
        said = re.sub(r"[0-9.]+ s ", "N s ", capsys.readouterr().out)
        assert said == "environment made in N s from trl0.22-py311.txt, torch 2.11.0\n"

    def test_the_base_torch_is_requested_and_marked(self, stage: Stage) -> None:
        """The option does not reach pytest; the other torch version reaches the cells."""
        stage.session("--base-torch", "-x")
        assert stage.prepared[0]["supply"].base.executable == sys.executable
        assert stage.ran[0]["base_torch"]
        assert stage.ran[0]["options"].pytest == ("-x",)

    def test_a_row_without_a_solution_is_recorded_and_not_run(self, stage: Stage, tmp_path: Path) -> None:
        """The row is neither healthy nor unhealthy: it has the resolver's reason."""
        stage.lock = Unsolvable(tmp_path / "x", NO_SOLUTION, {})
        assert stage.session() is stage.lock
        assert stage.absent == [("trl0.22-py311", RowState.UNINSTALLABLE, stage.lock.cause)]
        assert stage.ran == []

    @pytest.mark.parametrize(
        ("error", "state"),
        [
            (Unbuildable("a package fails to build: x"), RowState.UNINSTALLABLE),
            (InstallError("a downloaded file is not the one that was locked: x"), RowState.INFRASTRUCTURE),
            (RegistryUnreachable("the package registry is out of reach"), RowState.INFRASTRUCTURE),
            (EnvironmentMismatch("the environment differs from its lock"), RowState.INFRASTRUCTURE),
        ],
    )
    def test_only_a_fault_of_the_packages_makes_a_row_uninstallable(
        self, stage: Stage, error: CompatError, state: RowState
    ) -> None:
        """An infrastructure failure is no fact about the versions. Either way there is a row, and the error ends the
        session.
        """
        stage.error = error
        with pytest.raises(type(error)):
            stage.session()
        assert (stage.absent, stage.ran) == ([("trl0.22-py311", state, error.what)], [])


class TestDevice:
    @pytest.mark.parametrize(
        ("posargs", "there", "lock"),
        [
            ((), 0, "trl0.22-py311"),
            ((), 1, "trl0.22-py311-cuda"),
            (("--device", "auto"), 1, "trl0.22-py311-cuda"),
            (("--device", "cpu"), 1, "trl0.22-py311"),
            (("--device=cuda",), 1, "trl0.22-py311-cuda"),
        ],
    )
    def test_the_device_chooses_the_lock(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch, posargs: tuple[str, ...], there: int, lock: str
    ) -> None:
        """An available GPU is used by default, with the lock made for it; it is chosen once."""
        found = machine_with(monkeypatch, there)
        stage.session(*posargs)
        assert stage.planned == [lock]
        assert stage.ran[0]["gpus"] == (found if lock.endswith("-cuda") else ())

    @pytest.mark.parametrize("device", ["tpu", "cuda"])
    def test_a_missing_device_is_bad_input(self, stage: Stage, device: str) -> None:
        """A missing device is refused before anything is installed."""
        with pytest.raises(CompatError) as caught:
            stage.session("--device", device)
        assert caught.value.exit_code is ExitCode.BAD_INPUT
        assert stage.prepared == []


class TestSentences:
    def test_every_exit_code_has_a_sentence(self) -> None:
        """No sentence is empty, and no sentence is used twice."""
        sentence: Callable[[ExitCode], str] = nox_session.verdict_sentence
        assert len({sentence(code) for code in ExitCode}) == len(ExitCode)

    def test_an_infrastructure_failure_is_not_a_fault_of_the_versions(self) -> None:
        """The sentence says so."""
        assert nox_session.verdict_sentence(ExitCode.COULD_NOT_TELL) == (
            "Infrastructure failure: a cell was killed, hung, or never ran. Nothing is known about the versions."
        )
