"""The record of a user's script."""

from __future__ import annotations

import json
import math

import pipelines as p
import pytest
from finetune_compat.contract.script import ended_with


@pytest.mark.parametrize(
    ("rates", "steps"),
    [
        ((p.RATE, p.RATE, p.RATE), 3.0),
        ((0.0, p.RATE / 4, p.RATE / 2, p.RATE), 1.75),
        # A scheduler that exceeds the requested rate trains no more than a step in a step.
        ((2 * p.RATE, p.RATE / 2), 1.5),
        ((), 0.0),
    ],
)
def test_warm_up_is_part_of_a_step(rates: tuple[float, ...], steps: float) -> None:
    """A step counts as the share of the full learning rate that it has."""
    assert p.training(p.run(), learning_rate=rates).full_steps == pytest.approx(steps)


@pytest.mark.parametrize("made", [p.run(full_rate=None), p.run(full_rate=0.0), p.without_training(p.run())])
def test_steps_are_unknown_without_training_or_without_a_rate(made: p.Run) -> None:
    """Unknown is not zero."""
    assert made.full_steps is None


def test_a_record_is_one_line_of_standard_json() -> None:
    """JSON has no infinity: it is a string."""
    line = p.pipeline(p.training(p.run(), grad_norm=(math.inf, 0.5))).to_json()
    assert "\n" not in line
    [run] = json.loads(line, parse_constant=pytest.fail)["runs"]
    assert run["seen"]["training"]["grad_norm"] == ["Infinity", 0.5]


@pytest.mark.parametrize(("status", "text"), [(0, "status 0"), (3, "status 3"), (-9, "signal 9")])
def test_a_negative_status_is_a_signal(status: int, text: str) -> None:
    """As the standard library reports it."""
    assert ended_with(status) == text
