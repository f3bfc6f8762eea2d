"""The step from which a finding on a script shows."""

from __future__ import annotations

import dataclasses

import pytest
from finetune_compat.checks.since import since
from pipelines import run, training, without_training

NAN = float("nan")


@pytest.mark.parametrize(
    ("norms", "step"),
    [((1.0, 1.0, 0.0, 0.0), 3), ((1.0, 0.0, 1.0), None), ((0.0, 0.0), 1), ((1.0, NAN, NAN), 2), ((), None)],
)
def test_gradients_that_end(norms: tuple[float, ...], step: int | None) -> None:
    assert since(training(run(), grad_norm=norms), "G401") == step


def test_values_that_are_no_numbers() -> None:
    made = training(run(logged_at=(5, 10)), loss=(4.0, NAN), grad_norm=(1.0, 1.0, NAN))
    assert (since(made, "E807"), since(made, "G404")) == (10, 3)
    assert since(training(run(), loss=(4.0, NAN)), "E807") is None, "an older record has no steps of its losses"


def test_a_loss_that_leaves_for_good() -> None:
    """The step is that of the first logged loss above the limit of E808."""
    made = training(run(logged_at=(1, 2, 3, 4)), loss=(4.0, 5.0, 9.0, 300.0))
    assert since(made, "E808") == 3


def test_a_freeze_shows_in_the_next_step() -> None:
    assert since(dataclasses.replace(run(), frozen_after=3), "C105") == 4
    assert since(run(), "C105") is None


def test_what_is_wrong_before_training_is_wrong_at_every_step() -> None:
    assert since(without_training(run()), "C104") == 1
    assert since(run(), "E801") is None
