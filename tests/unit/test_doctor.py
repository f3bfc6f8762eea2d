"""`compat doctor`: what it finds, and its messages about what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat import doctor
from finetune_compat.contract.errors import ExitCode, InstallError
from finetune_compat.doctor import Item, findings
from finetune_compat.machine.gpus import GB, Gpu, GpuFailed
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from finetune_compat.store.predicted import Predicted

FIRST, *OTHERS = read_matrix().pythons
TORCH = f"torch {read_matrix().torch}"


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Callable[..., object]) -> None:
    """A machine that has everything except a GPU."""
    in_places(environments=tmp_path / "envs", nox=tmp_path / "nox", runs=tmp_path / "runs", store=tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "one.json").write_bytes(b"x" * 3_000_000)
    (tmp_path / "store" / "again.json").hardlink_to(tmp_path / "store" / "one.json")
    monkeypatch.setattr(doctor, "run_uv", lambda *_, **__: Answer(0, "uv 1.2.3\n", ""))
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/bin/true")
    monkeypatch.setattr(doctor, "read_gpus", lambda: ())
    offers(monkeypatch, "2.13.0+cpu")


def offers(monkeypatch: pytest.MonkeyPatch, torch: str, *beside: str) -> None:
    """The index offers this torch with these packages."""
    told = Predicted("3.11.7", {"torch": torch, **dict.fromkeys(beside, "1")})
    monkeypatch.setattr(doctor, "predict", lambda *_: told)


def found(name: str) -> Item:
    return next(finding for finding in findings() if finding.name == name)


def test_a_machine_that_has_everything_is_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    """There is one line per finding and nothing to do."""
    assert doctor.doctor(as_json=False) is ExitCode.HEALTHY
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok  ") for line in lines) and len(lines) == len(list(findings()))
    assert any(line.split() == ["ok", "uv", "uv", "1.2.3"] for line in lines)
    assert found("GPUs").found == "none: cells run on the CPU"
    assert found("store").found.startswith("3 MB, ")  # one file with two names
    assert found("runs").found.startswith("not there yet, ")


def test_json_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """The findings are one JSON array."""
    assert doctor.doctor(as_json=True) is ExitCode.HEALTHY
    assert [Item(**each) for each in json.loads(capsys.readouterr().out)] == list(findings())


def test_a_missing_python_matters_where_runs_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other Pythons are listed with the way to install them. A Python that does not start counts as missing."""
    for broken in (None, "/bin/false"):
        monkeypatch.setattr(doctor.shutil, "which", lambda name, broken=broken: broken)
        first, other = found(f"Python {FIRST}"), found(f"Python {OTHERS[0]}")
        assert (first.missing, other.missing) == (True, False)
        assert first.found == other.found == "not on the PATH"
        assert other.todo == f"Install it: uv python install {OTHERS[0]} (only needed with --python {OTHERS[0]})."
    assert doctor.doctor(as_json=False) is ExitCode.COULD_NOT_TELL


def test_the_build_of_torch_is_that_of_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build of torch is the one that an environment would get from the index."""
    assert found(TORCH).found == "the index offers 2.13.0+cpu, a CPU build"
    offers(monkeypatch, "2.13.0", "nvidia-cublas")
    assert found(TORCH).found == "the index offers 2.13.0, a CUDA build, about 5 GB in each environment"
    monkeypatch.setattr(doctor, "predict", lambda *_: None)
    assert found(TORCH).missing


def test_gpus_are_listed_and_a_failing_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the one that a run prints."""
    monkeypatch.setattr(doctor, "read_gpus", lambda: (Gpu(0, None, "GPU-1", "GPU-1", "NVIDIA X", 80 * GB, 0),))
    assert found("GPUs").found == "GPU 0 NVIDIA X 80 GB"

    def fail() -> None:
        raise GpuFailed("NVML: no answer", todo="See what nvidia-smi says.")

    monkeypatch.setattr(doctor, "read_gpus", fail)
    assert found("GPUs") == Item("GPUs", "NVML: no answer", missing=True, todo="See what nvidia-smi says.")


def test_without_uv_it_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is still reported."""

    def fail(*_: object, **__: object) -> None:
        raise InstallError("uv is not installed", todo="Install it.")

    monkeypatch.setattr(doctor, "run_uv", fail)
    assert found("uv") == Item("uv", "uv is not installed", missing=True, todo="Install it.")
    assert TORCH not in [finding.name for finding in findings()]
    assert found("disk space")


def test_a_directory_that_cannot_be_written_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable that sets another directory."""
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert found("store").todo == "Let it be writable, or name another directory."
    assert found("nox").missing and found("nox").todo == "Let it be writable."


def test_a_matrix_with_errors_is_reported(tmp_path: Path, in_places: Callable[..., object]) -> None:
    """The Pythons are not checked, because the matrix names them."""
    (tmp_path / "stacks.toml").write_text("[torch]\n")
    in_places(matrices=tmp_path)
    assert found("matrix").missing and f"{tmp_path}/stacks.toml" in found("matrix").found
    assert not any(finding.name.startswith("Python") for finding in findings())
