"""Prediction of the packages of an environment that does not exist yet."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.supply import REGISTRY, BasePython, Supply
from finetune_compat.stacks.uv_tool import Answer
from finetune_compat.store import predicted
from finetune_compat.store.addresses import Installed
from finetune_compat.store.predicted import Predicted, predict

LOCK = Lock(Path("trl0.22-py311.txt"), "0" * 64, {"trl": "0.22.2", "sympy": "1.13.3"}, {})
RESOLVED = """\
nvidia-cublas==13.1.0.3 ; sys_platform == 'linux'
sympy==1.14.0
torch==2.13.0
triton==3.7.0
"""


class Machine:
    """A stand-in for uv and for the Python that nox would use."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[str], str]] = []
        self.answer = Answer(0, RESOLVED, "")
        self.python: str | None = sys.executable

    def uv(self, arguments: Sequence[str], *, environ: object, stdin: str) -> Answer:
        self.asked.append((arguments, stdin))
        return self.answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with a registry and this Python."""
    stand_in = Machine()
    monkeypatch.setattr(predicted, "run_uv", stand_in.uv)
    monkeypatch.setattr(predicted, "shutil", SimpleNamespace(which=lambda _: stand_in.python))
    predict.cache_clear()
    return stand_in


def test_it_is_what_uv_resolves_for_the_python_that_nox_uses(machine: Machine) -> None:
    """uv is called once, with the settings of an installation."""
    found = predict("3.11", "2.13.0", Supply(offline=True))
    assert predict("3.11", "2.13.0", Supply(offline=True)) is found
    assert found is not None
    assert found.python == platform.python_version()
    assert found.versions == {
        "nvidia-cublas": "13.1.0.3",
        "sympy": "1.14.0",
        "torch": "2.13.0",
        "triton": "3.7.0",
    }
    [(arguments, stdin)] = machine.asked
    assert stdin == "torch==2.13.0"
    assert arguments[-3:] == ["--python", sys.executable, "--offline"]


def test_locked_packages_have_their_locked_version() -> None:
    """Only requirements of torch that are in no lock are added."""
    versions = {"nvidia-cublas": "13.1.0.3", "sympy": "1.14.0", "torch": "2.13.0", "triton": "3.7.0"}
    beside = ("nvidia-cublas 13.1.0.3", "triton 3.7.0")
    assert Predicted("3.11.7", versions).installed(LOCK) == Installed("3.11.7", "2.13.0", triton=True, beside=beside)
    assert Predicted("3.11.7", {"torch": "2.13.0+cpu"}).installed(LOCK) == Installed(
        "3.11.7", "2.13.0+cpu", triton=False
    )


@pytest.mark.parametrize(
    "change",
    [
        {"answer": Answer(1, "", "error: dns error")},
        {"answer": Answer(0, "sympy==1.14.0\n", "")},
        {"python": None},
        {"python": "/bin/false"},
    ],
)
def test_unknown_packages_are_not_guessed(machine: Machine, change: dict[str, object]) -> None:
    """Examples: no registry, no torch, no such Python, a Python that does not run."""
    for name, value in change.items():
        setattr(machine, name, value)
    assert predict("3.11", "2.13.0", REGISTRY) is None


def test_a_borrowed_torch_is_not_predicted(machine: Machine) -> None:
    """The packages that another Python lends are known afterwards."""
    assert predict("3.11", "2.13.0", Supply(base=BasePython("/usr/bin/python3", "3.11", ()))) is None
    assert machine.asked == []
