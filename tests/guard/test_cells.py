"""Every cell of the stack with a guard: it stops cells that cannot learn, and does not change the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from finetune_compat import TrainingGuard
from finetune_compat.cell import runner
from finetune_compat.cell.objectives import plain, preference, sft
from finetune_compat.checks import Outcome, judge
from finetune_compat.contract import closed_forms
from finetune_compat.contract.catalog import BATCH_ROWS, flow_named
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.records import Observation, Stage


@pytest.fixture(autouse=True)
def _attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a guard to the callbacks of every trainer of a flow."""

    def guarded(arguments: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda setup: {**arguments(setup), "callbacks": [TrainingGuard()]}

    makers = ((sft, "arguments"), (sft, "arguments_for_completions"), (preference, "arguments"), (plain, "arguments"))
    for module, name in makers:
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))


def test_a_guarded_cell(plan: Plan, guarded: PlannedCell) -> None:
    """It stops before the first step if nothing is trainable, after three steps if no row has a label, and never
    otherwise. Other cells are judged as the ledger lists, without a warning of the guard.
    """
    seen = runner.run_cell(plan, guarded)
    said = [message for message in seen.warnings if "TrainingGuard" in message.text]
    assert said == []
    expected, rows = _stop(seen)
    if expected is None:
        verdict = judge(seen, flow_named(seen.flow), guarded.listed)
        assert verdict.outcome in (Outcome.PASS, Outcome.XFAIL), verdict.reason
        return
    assert seen.error is not None
    assert (seen.error.type, seen.error.stage) == ("TrainingStopped", Stage.TRAINING)
    assert seen.error.message.partition("\n")[0] == expected
    assert (seen.labels.samples if seen.labels else 0) == rows, "rows that were trained on before it stopped"


def _stop(seen: Observation) -> tuple[str | None, int]:
    """Return the expected message of the guard, if any, and the rows trained until then."""
    census, labels = seen.census(Stage.TRAINER), seen.labels
    if census is not None and census.trainable == 0:
        return _nothing_trainable(seen), 0
    if labels is not None and labels.all_masked == labels.samples:
        rows = 3 * BATCH_ROWS
        return f"there is nothing to learn in steps 1 to 3: none of {rows} rows has a label to predict", rows
    return None, 0


def _nothing_trainable(seen: Observation) -> str:
    """Return the first line of the message, in closed form."""
    assert seen.model is not None
    base = closed_forms.base_logical(seen.model)
    if seen.lora is None:
        return f"nothing is trainable: 0 of {base:,} parameters"
    adapter = closed_forms.adapter(seen.model, seen.lora)
    all_of_it = f"0 of {base + adapter:,} parameters; all {adapter:,} adapter parameters"
    return f"nothing is trainable: {all_of_it} are frozen"
