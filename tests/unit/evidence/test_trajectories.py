"""Every way is asked of each stack, with stacks that answer in place of real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from finetune_compat.contract.errors import StackFailed
from finetune_compat.contract.trajectory import STEPS, WAYS, Way
from finetune_compat.evidence import trajectories
from finetune_compat.evidence.trajectories import SEEDS, STACKS, main, measured
from finetune_compat.evidence.trajectory_record import FASTER, SLOWER, read_record
from finetune_compat.stacks.matrix import read_matrix


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """A stack without padding_free; returns all runs that were asked of it. A lower rate learns slower."""
    questions: list[Mapping[str, Any]] = []

    def answer(stack: Any, module: str, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        if stack.name == "trl0.22-broken":
            raise StackFailed("no answer", where=stack.name, meaning="It fails.", todo="Look.")
        assert Path(request["scratch"]).is_dir()
        questions.extend(request["runs"])
        return {"versions": {"trl": "1.16.0"}, "runs": [outcome(run) for run in request["runs"]]}

    def outcome(run: Mapping[str, Any]) -> dict[str, Any]:
        absent = "padding_free" if run["way"] == Way.PADDING_FREE else ""
        losses = [5.0 - 0.05 * run["rate"] * step for step in range(STEPS)]
        return {"losses": losses, "weights": ["a"], "error": "", "absent": absent}

    monkeypatch.setattr(trajectories, "ask", answer)
    return questions


def test_every_way_of_every_task_is_asked_once(asked: list[Mapping[str, Any]]) -> None:
    """And each seed at three rates. What a release does not have is no run."""
    found = measured(SimpleNamespace(name="trl1.16"))
    ways = [(task, way) for task, listed in WAYS.items() for way in listed]
    assert [(run["task"], run["way"]) for run in asked[: len(ways)]] == ways
    assert [(run["rate"], run["seed"]) for run in asked[len(ways) :]] == [
        (rate, seed) for rate in (1.0, SLOWER, FASTER) for seed in SEEDS
    ]
    assert [(run.task, run.way) for run in found.runs] == [pair for pair in ways if pair[1] is not Way.PADDING_FREE]
    usual, slower, faster = (steps[0] for steps in (found.speed.usual, found.speed.slower, found.speed.faster))
    assert usual is not None and slower is not None and faster is not None
    assert faster < usual < slower


def test_a_stack_replaces_its_own_record_only(
    asked: list[Mapping[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record is in the order of reports. After an error, what was measured before is stored."""
    monkeypatch.setattr(trajectories, "places", lambda: SimpleNamespace(trajectories=tmp_path))
    monkeypatch.setattr(trajectories, "stack_python", lambda matrix, name: SimpleNamespace(name=name))
    assert main(["trl1.16"]) == 0
    assert main(["trl0.22"]) == 0
    assert list(read_record(tmp_path / "trajectories.json")) == ["trl0.22", "trl1.16"]
    assert "# Do ways to run one training agree?" in (tmp_path / "trajectories.md").read_text()
    monkeypatch.setattr(trajectories, "stack_python", lambda matrix, name: SimpleNamespace(name="trl0.22-broken"))
    assert main(["trl1.0"]) != 0
    assert list(read_record(tmp_path / "trajectories.json")) == ["trl0.22", "trl1.16"]
    assert "no answer" in capsys.readouterr().err


def test_the_default_stacks_are_in_the_matrix() -> None:
    """A renamed row would end the command."""
    matrix = read_matrix()
    assert [matrix.stack(name).name for name in STACKS] == list(STACKS)
