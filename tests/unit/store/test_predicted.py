"""What an environment would hold that is not made yet."""

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
from finetune_compat.store.predicted import Foretold, foretell

LOCK = Lock(Path("trl0.22-py311.txt"), "0" * 64, {"trl": "0.22.2", "sympy": "1.13.3"}, {})
RESOLVED = """\
nvidia-cublas==13.1.0.3 ; sys_platform == 'linux'
sympy==1.14.0
torch==2.13.0
triton==3.7.0
"""


class Machine:
    """Stands in for uv and the Python that nox would take."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[str], str]] = []
        self.answer = Answer(0, RESOLVED, "")
        self.python: str | None = sys.executable

    def uv(self, arguments: Sequence[str], *, environ: object, stdin: str) -> Answer:
        self.asked.append((arguments, stdin))
        return self.answer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """With a registry, and this Python."""
    stand_in = Machine()
    monkeypatch.setattr(predicted, "run_uv", stand_in.uv)
    monkeypatch.setattr(predicted, "shutil", SimpleNamespace(which=lambda _: stand_in.python))
    foretell.cache_clear()
    return stand_in


def test_it_is_what_uv_would_resolve_on_the_python_nox_would_take(machine: Machine) -> None:
    """Asked once, with the settings of an installation."""
    found = foretell("3.11", "2.13.0", Supply(offline=True))
    assert foretell("3.11", "2.13.0", Supply(offline=True)) is found
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


def test_what_is_locked_is_as_it_is_locked() -> None:
    """Only what hangs below torch and is in no lock stands beside it."""
    versions = {"nvidia-cublas": "13.1.0.3", "sympy": "1.14.0", "torch": "2.13.0", "triton": "3.7.0"}
    beside = ("nvidia-cublas 13.1.0.3", "triton 3.7.0")
    assert Foretold("3.11.7", versions).installed(LOCK) == Installed("3.11.7", "2.13.0", triton=True, beside=beside)
    assert Foretold("3.11.7", {"torch": "2.13.0+cpu"}).installed(LOCK) == Installed(
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
def test_what_cannot_be_told_is_not_guessed(machine: Machine, change: dict[str, object]) -> None:
    """No registry, no torch, no such Python, one that does not run."""
    for name, value in change.items():
        setattr(machine, name, value)
    assert foretell("3.11", "2.13.0", REGISTRY) is None


def test_a_lent_torch_is_not_foretold(machine: Machine) -> None:
    """What another Python would lend is known when it has."""
    assert foretell("3.11", "2.13.0", Supply(base=BasePython("/usr/bin/python3", "3.11", ()))) is None
    assert machine.asked == []
