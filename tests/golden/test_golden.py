"""Stored runs, judged and rendered: the exact output for a person and a CI system.

Each folder holds a run as cells wrote it (`run/`), the ledger that judges it, and the expected files.
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.report import print_run, publish
from rich.console import Console

HERE = Path(__file__).parent
SCENARIOS = sorted(path.parent.name for path in HERE.glob("*/ledger.toml"))
ACCEPT = "Read it; if it is what you meant: pytest tests/golden --accept"


def rendered(scenario: Path, tmp_path: Path) -> dict[str, str]:
    """Return every file of the scenario's run for readers, by name."""
    run = tmp_path / "reports" / "runs" / scenario.name
    shutil.copytree(scenario / "run", run)
    summary = publish(run, load_ledger(scenario / "ledger.toml"))
    found = {name: (run / name).read_text(encoding="utf-8") for name in ("summary.md", "junit.xml")}
    for width in (100, 160):
        out = io.StringIO()
        print_run(summary, Console(file=out, width=width, color_system=None, force_terminal=False))
        found[f"terminal-{width}.txt"] = out.getvalue()
    return {**found, "exit-code.txt": f"{summary.exit_code.name}\n"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_stored_run_reads_as_accepted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """Judging and rendering a stored run gives exactly the accepted files."""
    monkeypatch.chdir(tmp_path)  # paths are printed relative to the current directory
    expected = HERE / name / "expected"
    for file, text in rendered(HERE / name, tmp_path).items():
        path = expected / file
        if pytestconfig.getoption("--accept", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is not there. {ACCEPT}"
        assert text == path.read_text(encoding="utf-8"), f"{path} says something else. {ACCEPT}"


def test_scenarios_are_found() -> None:
    """Without any folder the parametrised tests would pass."""
    assert len(SCENARIOS) == 7
