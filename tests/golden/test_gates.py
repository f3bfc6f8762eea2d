"""Gates over stored runs: the exact output for a person, a pull request and a CI system.

The page and the JSON are stored without their raw observations, which are in `run/observations.jsonl`.
"""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gates
import pytest
from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report import FILES, answer_json, publish
from finetune_compat.gate.report.terminal import print_gate
from jsonschema import Draft202012Validator
from rich.console import Console

ACCEPT = "Read it; if it is what you meant: pytest tests/golden --accept"
NAMES = sorted(path.parent.name for path in gates.FOLDER.glob("*/ledger.toml"))


def answered(name: str, tmp_path: Path) -> tuple[Gate, Path]:
    """Return the scenario's decision and the directory of its files."""
    run = tmp_path / "reports" / "runs" / name
    shutil.copytree(gates.FOLDER / name / "run", run)
    gate = gates.gate_of(name, run)
    publish(gate, run)
    return gate, run


def rendered(name: str, tmp_path: Path) -> dict[str, str]:
    """Return every file for readers, by name."""
    gate, run = answered(name, tmp_path)
    found = {file: (run / file).read_text(encoding="utf-8").replace(f"{tmp_path}/", "") for file in FILES}
    found["gate.html"] = re.sub(
        r'<style>.*?</style>|(?<=tabindex="0">)\{.*?(?=</pre>)', "...", found["gate.html"], flags=re.DOTALL
    )
    found["gate.json"] = json.dumps(without_observations(json.loads(found["gate.json"])), indent=1) + "\n"
    for file, width, details in (("terminal-80.txt", 80, False), ("terminal-100.txt", 100, True)):
        out = io.StringIO()
        to = Console(file=out, width=width, color_system=None, force_terminal=False)
        print_gate(replace(gate, run=Path(gate.run.name)), to, details=details)
        found[file] = out.getvalue()
    return {**found, "exit-code.txt": f"{gate.decision.exit_code.name}\n"}


def without_observations(value: Any) -> Any:
    """Return the JSON with nothing under `seen`."""
    if isinstance(value, dict):
        return {key: "..." if key == "seen" and item else without_observations(item) for key, item in value.items()}
    return [without_observations(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_a_gate_reads_as_accepted(name: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Comparing, deciding and rendering a stored run gives exactly the accepted files."""
    for file, text in rendered(name, tmp_path).items():
        path = gates.FOLDER / name / "expected" / file
        if pytestconfig.getoption("--accept", default=False):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is not there. {ACCEPT}"
        assert text == path.read_text(encoding="utf-8"), f"{path} says something else. {ACCEPT}"


@pytest.mark.parametrize("name", NAMES)
def test_the_json_is_valid_under_the_published_schema(name: str, tmp_path: Path) -> None:
    """The JSON includes all observations; an independent validator checks it."""
    _, run = answered(name, tmp_path)
    schema = json.loads(answer_json.SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator(schema).validate(json.loads((run / "gate.json").read_text(encoding="utf-8")))


def test_scenarios_are_found() -> None:
    """Without any folder the parametrised tests would pass."""
    assert sorted(gates.SCENARIOS) == NAMES
    assert len(NAMES) == 8
