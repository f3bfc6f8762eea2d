"""The answers of the golden gates, made again from their inputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import gates
import pytest
from finetune_compat.gate.decision import Gate


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """An answer that contains every case."""
    run = tmp_path_factory.mktemp("runs") / "mixed"
    shutil.copytree(gates.FOLDER / "mixed" / "run", run)
    return gates.gate_of("mixed", run)


@pytest.fixture(params=sorted(gates.SCENARIOS))
def every_gate(request: pytest.FixtureRequest, tmp_path: Path) -> Gate:
    """The answer of every scenario."""
    run = tmp_path / request.param
    shutil.copytree(gates.FOLDER / request.param / "run", run)
    return gates.gate_of(request.param, run)
