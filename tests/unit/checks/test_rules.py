"""Rules that hold for any training. How they judge the project's flows is tested in test_judge.py."""

from __future__ import annotations

import dataclasses

import pytest
from builders import healthy
from finetune_compat.checks import rules
from finetune_compat.contract.records import Gradients, Optimizer, Training


def training(**changed: object) -> Training:
    """Return healthy training, with changes."""
    some = healthy().training
    assert some is not None
    return dataclasses.replace(some, **changed)  # type: ignore[arg-type]


def test_healthy_training_breaks_no_rule() -> None:
    """No rule fails."""
    assert rules.optimizer_wrong(Optimizer(16_384, 0, 0)) is None
    assert rules.gradients_absent(Gradients(28, 0, 0, 0), moved=True) is None
    assert rules.gradients_missing(training()) is None
    assert rules.weights_stand_still(training()) is None
    assert rules.labels_masked(80, 0) is None
    assert rules.weights_wrong(moved=True, finite=True) is None
    assert rules.eval_loss_missing(4.9, 4.2) is None
    assert rules.eval_loss_flat(4.9, 4.2) is None


@pytest.mark.parametrize("held", [Optimizer(0, 0, 0), Optimizer(4, 2, 0), Optimizer(4, 0, 3)])
def test_an_optimizer_must_hold_exactly_what_is_trainable(held: Optimizer) -> None:
    """The same message reports none, too few and too many."""
    assert rules.optimizer_wrong(held) == (
        f"the optimizer holds {held.parameters} parameters; "
        f"{held.missing} trainable ones are missing from it and {held.extra} in it are not trainable"
    )


@pytest.mark.parametrize(
    "seen", [Gradients(0, 0, 0, 0), Gradients(4, 1, 0, 0), Gradients(4, 0, 1, 0), Gradients(4, 0, 0, 1)]
)
def test_every_tensor_must_receive_a_gradient(seen: Gradients) -> None:
    """It must be finite and not always zero; and there must be tensors."""
    assert rules.gradients_absent(seen, moved=True) == (
        f"of {seen.tensors} trainable tensors {seen.silent} never received a gradient, "
        f"{seen.zero} only zeros, {seen.non_finite} a non-finite one"
    )


def test_where_no_weight_moves_half_an_adapter_has_no_gradient_to_receive() -> None:
    """lora_B stays zero, and with it the gradient of lora_A: only the standstill is reported. If all gradients are
    zero, the standstill is not the cause.
    """
    assert rules.gradients_absent(Gradients(28, 0, 14, 0), moved=False) is None
    assert rules.weights_wrong(moved=False, finite=True) == "no trained weight changed at all"
    assert rules.gradients_absent(Gradients(28, 0, 28, 0), moved=False) is not None


def test_a_standstill_is_reported_once() -> None:
    """This also holds for the whole training."""
    seen = training(subject_delta=0.0, gradients=Gradients(28, 0, 14, 0))
    assert rules.gradients_missing(seen) is None
    assert rules.weights_stand_still(seen) == "no trained weight changed at all"
    assert rules.weights_stand_still(training(subject_finite=False)) == (
        "some trained weights are NaN or infinite after training"
    )


@pytest.mark.parametrize("moved", [True, False])
def test_weights_must_stay_finite(moved: bool) -> None:
    """This holds however much they changed."""
    assert rules.weights_wrong(moved=moved, finite=False) == "some trained weights are NaN or infinite after training"


@pytest.mark.parametrize(("rows", "masked"), [(8, 2), (8, 8), (0, 0)])
def test_every_row_must_have_something_to_learn(rows: int, masked: int) -> None:
    """There must also be rows."""
    assert rules.labels_masked(rows, masked) == f"{masked} of {rows} rows have nothing to learn (every label is -100)"


@pytest.mark.parametrize(("before", "after"), [(None, 4.2), (4.9, None), (4.9, float("nan")), (float("inf"), 4.2)])
def test_an_eval_loss_must_be_a_number_at_both_ends(before: float | None, after: float | None) -> None:
    """The message has the value."""
    assert rules.eval_loss_missing(before, after) == f"eval_loss was {before} before and {after} after training"


@pytest.mark.parametrize(
    ("before", "after", "flat"),
    [
        (3.289622, 3.2896224, "eval loss is flat to 6 decimals: 3.289622 -> 3.289622"),
        (float("nan"), float("nan"), "eval loss is flat to 6 decimals: nan -> nan"),
        (3.289622, 3.289623, None),
        (3.289622, float("nan"), None),
    ],
)
def test_a_loss_that_moves_after_the_sixth_decimal_is_flat(before: float, after: float, flat: str | None) -> None:
    """Users see six decimals."""
    assert rules.eval_loss_flat(before, after) == flat
