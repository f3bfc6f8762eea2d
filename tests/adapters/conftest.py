"""Fixtures of the tests of saved adapters: the host's command, and models of this stack."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Inspected:
    """The output of `compat inspect --json`."""

    code: int
    told: dict[str, Any]

    @property
    def found(self) -> list[str]:
        """Codes of the findings."""
        return [finding["code"] for finding in self.told["findings"]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--host-python` sets the Python that has the host side."""
    parser.addoption("--host-python", type=Path, required=True, help="the Python of the command line under test")


@pytest.fixture(scope="session")
def inspected(pytestconfig: pytest.Config) -> Callable[[Path], Inspected]:
    """Run `compat inspect --json` on a directory, as a user does: outside the stack that saved it."""

    def run(directory: Path) -> Inspected:
        command = [
            str(pytestconfig.getoption("--host-python")),
            "-m",
            "finetune_compat",
            "inspect",
            str(directory),
            "--json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        assert done.returncode in (0, 1), done.stderr
        return Inspected(done.returncode, json.loads(done.stdout))

    return run
