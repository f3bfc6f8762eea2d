"""Fixtures of the tests of watched scripts: a tiny model on disk, and the host's command.

They run inside a stack's environment: nox -s "compat-3.11(trl='0.22')" -- --pipelines
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Watched:
    """The output of `compat watch --json`."""

    code: int
    pipeline: dict[str, Any]
    verdicts: list[dict[str, Any]]

    @property
    def run(self) -> dict[str, Any]:
        """The only trainer."""
        run: dict[str, Any]
        (run,) = self.pipeline["runs"]
        return run

    def trainable(self, stage: str) -> int:
        """Trainable parameters at the last census of a stage."""
        return [int(taken["trainable"]) for taken in self.run["seen"]["stages"] if taken["name"] == stage][-1]


Watch = Callable[..., Watched]

AS_A_GATE_DOES = """
import json, sys
from pathlib import Path
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.watch.page import as_json, verdicts_on
from finetune_compat.watch.host import Interpreter, exit_code, run_pipeline

seen = run_pipeline(sys.argv[2:], Interpreter("own", Path(sys.argv[1])), throw_away=True)
verdicts = verdicts_on(seen, load_ledger())
print(json.dumps(as_json(seen, verdicts)))
sys.exit(exit_code(verdicts))
"""

OF_OLD = (
    ()
    if Version(version("trl")) >= Version("0.12")
    else (("processing_class=", "tokenizer="), ("bf16=False", 'bf16=False, dataset_text_field="text"'))
)
"""How the users' script was written for TRL before 0.12, which lacked the name and the default."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--host-python` sets the Python that has the host side."""
    parser.addoption("--host-python", type=Path, required=True, help="the Python of the command line under test")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 with its tokenizer, saved by this stack."""
    place = tmp_path_factory.mktemp("models") / "tiny"
    subprocess.run([sys.executable, str(HERE / "make_model.py"), str(place)], check=True)
    return place


@pytest.fixture
def watch(pytestconfig: pytest.Config, tmp_path: Path) -> Watch:
    """Run `compat watch --json` in the test's directory, on this stack's interpreter."""

    def run(*given: str, for_a_gate: bool = False) -> Watched:
        # The host side is imported from the checkout; the script's environment is this one.
        host = str(pytestconfig.getoption("--host-python"))
        alone = ["-m", "finetune_compat", "watch", "--python", sys.executable, "--json", "--"]
        command = [host, *(["-c", AS_A_GATE_DOES, sys.executable] if for_a_gate else alone), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=dict(os.environ))
        assert done.returncode in (0, 1, 3), done.stderr
        told = json.loads(done.stdout)
        return Watched(done.returncode, told["pipeline"], told["verdicts"])

    return run


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Write the users' script into the test's directory, with parts of it replaced."""

    def write(*changes: tuple[str, str]) -> str:
        text = (HERE / "train.py").read_text(encoding="utf-8")
        for old, new in (*OF_OLD, *changes):
            assert old in text, f"{old!r} is not in train.py: the change would silently not be tested"
            text = text.replace(old, new)
        (tmp_path / "train.py").write_text(text, encoding="utf-8")
        return "train.py"

    return write


@pytest.fixture
def launcher() -> str:
    """Accelerate's command, next to this interpreter."""
    found = shutil.which("accelerate", path=str(Path(sys.executable).parent))
    assert found
    return "accelerate"
