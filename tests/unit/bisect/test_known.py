"""Results that are stored: found without an environment, for releases that have a lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import builders as b
import pytest
import store_builders
from finetune_compat.bisect import known
from finetune_compat.bisect.known import locked_places, stored_results
from finetune_compat.bisect.probe import Bench, Subject
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.decision import Rule
from finetune_compat.gate.resolved import Resolved
from finetune_compat.history.condition import condition
from finetune_compat.run.options import RunOptions
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.predicted import Predicted
from packaging.version import Version

MATRIX = read_matrix()
PLAN = MATRIX.plan(MATRIX.stack("trl0.24"), "3.11")
ROW = Resolved("trl0.24", Rule.ROW, PLAN, locked(PLAN), (), ())
SEEN = b.frozen(b.healthy("sft-peft-model", stack="trl0.24-py311"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Any) -> Bench:
    in_places(environments=tmp_path)
    stored = store_builders.stored_object(SEEN)
    store = type(
        "Stored", (), {"read": lambda self, asked: {one: stored for one in asked if one == stored.recipe.address}}
    )
    monkeypatch.setattr(known.Store, "configured", store)
    monkeypatch.setattr(known, "predict", lambda *_: Predicted("3.11.7", {"torch": "2.13.0"}))
    monkeypatch.setattr(known, "recipes", lambda plan, *_: {plan.id_of(cell): stored.recipe for cell in plan.cells})
    what = Subject("sft-peft-model[qwen2-nf4-gc]")
    return Bench(
        tmp_path, b.UNLISTED, what, condition("verdict", None), DeviceKind.CPU, (), RunOptions(), lambda _: None
    )


def test_a_stored_result_is_judged_and_not_run_again(bench: Bench) -> None:
    (found,) = stored_results(lambda _: ROW, (3,), bench).items()
    assert found[0] == 3
    assert found[1].measured.bad and found[1].ran is False and found[1].versions["trl"] == "0.24.0"
    assert bench.probe(ROW) is found[1]


def test_without_a_solution_or_a_prediction_nothing_is_known(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Resolved("x", Rule.ROW, PLAN, Unsolvable(Path("x"), "cause: no", {}), (), ())
    assert stored_results(lambda _: lost, (0,), bench) == {}
    monkeypatch.setattr(known, "predict", lambda *_: None)
    assert stored_results(lambda _: ROW, (0,), bench) == {}


def test_a_lock_is_that_of_a_row_or_of_an_earlier_command(tmp_path: Path, in_places: Any) -> None:
    in_places(environments=tmp_path)
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "trl0.22.1-py311.txt").write_text("")
    versions = [Version(text) for text in ("0.22.0", "0.22.1", "0.22.2", "0.25.0")]
    assert locked_places(MATRIX, "trl", versions) == (0, 1, 2)
