"""Every cell of the stack again, with a guard in it: it stops those in which nothing is trainable, before their first
step, and lets all others be what they are without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness import TrainingGuard, counts
from harness.catalog import flow_named
from harness.cell import adapt, runner
from harness.checks import Outcome, judge
from harness.plan import Plan, PlannedCell
from harness.records import Observation, Stage


@pytest.fixture(autouse=True)
def _attached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trainer of a flow is made with a guard among its callbacks."""

    def guarded(arguments: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda setup: {**arguments(setup), "callbacks": [TrainingGuard()]}

    monkeypatch.setattr(adapt, "sft_arguments", guarded(adapt.sft_arguments))
    monkeypatch.setattr(adapt, "trainer_arguments", guarded(adapt.trainer_arguments))


def test_a_guarded_cell(plan: Plan, guarded: PlannedCell) -> None:
    """Stopped if and only if nothing is trainable once its trainer is made; a cell that is not stopped is judged as
    the ledger says, and hears no word from the guard.
    """
    seen = runner.run_cell(plan, guarded)
    said = [message for message in seen.warnings if "TrainingGuard" in message.text]
    assert said == []
    census = seen.census(Stage.TRAINER)
    if census is not None and census.trainable == 0:
        assert seen.error is not None
        assert (seen.error.type, seen.error.stage) == ("TrainingStopped", Stage.TRAINING)
        assert seen.error.message.startswith(_nothing_trainable(seen))
        assert seen.labels is None, "a training step ran"
        return
    verdict = judge(seen, flow_named(seen.flow), guarded.listed)
    assert verdict.outcome in (Outcome.PASS, Outcome.XFAIL), verdict.reason


def _nothing_trainable(seen: Observation) -> str:
    """The message's first line, in closed form."""
    base = counts.base_logical(seen.model)
    if seen.lora is None:
        return f"nothing is trainable: 0 of {base:,} parameters\n"
    adapter = counts.adapter(seen.model, seen.lora)
    return f"nothing is trainable: 0 of {base + adapter:,} parameters; all {adapter:,} adapter parameters are frozen\n"
