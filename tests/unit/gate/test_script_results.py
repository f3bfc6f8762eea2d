"""A script's results in the store of a gate or a search: what is kept, and what is said if nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pipelines as p
import pytest
from finetune_compat.contract.errors import EnvironmentMismatch
from finetune_compat.contract.verdict import Outcome, Symptom, Verdict
from finetune_compat.gate import script_results
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script_results import ScriptResults
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.addresses import Installed
from finetune_compat.store.predicted import Predicted

MATRIX = read_matrix()
PLAN = MATRIX.plan(MATRIX.stack("trl0.24"), "3.11")
LOCK = locked(PLAN)
ROW = Resolved("trl0.24", Rule.ROW, PLAN, LOCK, (), ())
HERE = StackPython("trl0.24-py311", Path("/none/bin/python"), LOCK, Environment("2.13.0", False, True))
SEEN = p.pipeline(p.run())
PASSED = Verdict("x", Outcome.PASS, "", Symptom.FALLS)
UNJUDGED = Verdict("x", Outcome.INFRASTRUCTURE, "", Symptom.UNKNOWN)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> ScriptResults:
    monkeypatch.chdir(tmp_path)
    in_places(store=tmp_path / "store")
    (tmp_path / "train.py").write_text("")
    monkeypatch.setattr(script_results, "installed", lambda *_: Installed("3.11.7", "2.13.0+cpu", triton=False))
    monkeypatch.setattr(script_results, "environment_of", lambda _: None)
    return ScriptResults(("train.py",), 10, ())


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(script_results, "keep_script", lambda recipe, seen, store: found.append(seen) or "")
    return found


def test_a_judged_record_is_kept(results: ScriptResults, stored: list[Any]) -> None:
    results.keep(results.recipe(HERE), HERE, SEEN, [PASSED], pytest.fail)
    assert stored == [SEEN]


@pytest.mark.parametrize(
    ("verdicts", "status"), [([PASSED, UNJUDGED], 0), ([PASSED], -9)], ids=["unjudged", "ended by a signal"]
)
def test_what_the_machine_lost_is_not(
    results: ScriptResults, stored: list[Any], verdicts: list[Verdict], status: int
) -> None:
    results.keep(results.recipe(HERE), HERE, p.pipeline(p.run(), status=status), verdicts, pytest.fail)
    assert stored == []


def test_a_reason_is_said(results: ScriptResults, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    results.keep(results.recipe(HERE), HERE, p.pipeline(p.run(), hosts=("hub",), read=()), [PASSED], said.append)
    assert said == ["trl0.24-py311: not cached: it asked hub, whose answer may change"]


def test_an_environment_that_changed_while_the_script_ran_keeps_nothing(
    results: ScriptResults, stored: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(_: object) -> None:
        raise EnvironmentMismatch("files differ from their wheels")

    said: list[str] = []
    monkeypatch.setattr(script_results, "environment_of", changed)
    results.keep(results.recipe(HERE), HERE, SEEN, [PASSED], said.append)
    assert stored == [] and "files differ" in said[0]


def test_the_prediction_and_the_environment_give_one_address(
    results: ScriptResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a search finds without an environment what it stored with one."""
    asked: list[Any] = []
    monkeypatch.setattr(script_results, "predict", lambda *_: Predicted("3.11.7", {"torch": "2.13.0+cpu"}))
    monkeypatch.setattr(script_results, "stored_script", lambda recipe, store: asked.append(recipe))
    results.without_environment(ROW)
    assert asked == [results.recipe(HERE)]


def test_without_versions_or_a_prediction_nothing_is_known(
    results: ScriptResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_results, "predict", lambda *_: None)
    lost = Resolved("x", Rule.ROW, PLAN, Unsolvable(Path("x"), "cause: no", {}), (), ())
    assert results.without_environment(lost) is None
    assert results.without_environment(ROW) is None


def test_without_an_environment_nothing_is_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = ScriptResults(("train.py",), 10, ())
    assert found.recipe(HERE) is None and found.look_up(None) is None
