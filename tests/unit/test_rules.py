"""Rules that hold for any training. What they say of our own flows is tested where the judge says it."""

from __future__ import annotations

import dataclasses

import pytest
from builders import healthy

from harness.checks import rules
from harness.records import Gradients, Labels, Optimizer, Training


def training(**changed: object) -> Training:
    """Healthy training, or changed."""
    some = healthy().training
    assert some is not None
    return dataclasses.replace(some, **changed)  # type: ignore[arg-type]


def test_healthy_training_breaks_no_rule() -> None:
    """None of them."""
    seen = training()
    assert rules.optimizer_wrong(seen.optimizer) is None
    assert rules.gradients_missing(seen) is None
    assert rules.weights_stand_still(seen) is None
    assert rules.eval_loss_missing(seen) is None
    assert rules.labels_masked(Labels(1, 1, 0, "", "")) is None


@pytest.mark.parametrize(
    ("held", "numbers"),
    [
        (Optimizer(0, 0, 0), (0, 0, 0)),
        (Optimizer(4, 2, 0), (4, 2, 0)),
        (Optimizer(4, 0, 3), (4, 0, 3)),
    ],
)
def test_an_optimizer_must_hold_exactly_what_is_trainable(held: Optimizer, numbers: tuple[int, int, int]) -> None:
    """Nothing, too little and too much are said in one way."""
    parameters, missing, extra = numbers
    assert rules.optimizer_wrong(held) == (
        f"the optimizer holds {parameters} parameters; "
        f"{missing} trainable ones are missing from it and {extra} in it are not trainable"
    )


@pytest.mark.parametrize(
    "gradients", [Gradients(0, 0, 0, 0), Gradients(4, 1, 0, 0), Gradients(4, 0, 1, 0), Gradients(4, 0, 0, 1)]
)
def test_every_tensor_must_receive_a_gradient(gradients: Gradients) -> None:
    """That is finite and not always zero; and there must be tensors."""
    assert rules.gradients_missing(training(gradients=gradients)) == (
        f"of {gradients.tensors} trainable tensors {gradients.silent} never received a gradient, "
        f"{gradients.zero} only zeros, {gradients.non_finite} a non-finite one"
    )


def test_where_no_weight_moves_half_an_adapter_has_no_gradient_to_receive() -> None:
    """lora_B stays zero, and with it the gradient of lora_A: the standstill says it, and not twice."""
    seen = training(subject_delta=0.0, gradients=Gradients(28, 0, 14, 0))
    assert rules.gradients_missing(seen) is None
    assert rules.weights_stand_still(seen) == "no trained weight changed at all"


def test_weights_must_stay_finite() -> None:
    """However much they changed."""
    said = "some trained weights are NaN or infinite after training"
    assert rules.weights_stand_still(training(subject_finite=False)) == said


@pytest.mark.parametrize("labels", [Labels(8, 40, 2, "", ""), Labels(8, 0, 8, "", ""), Labels(0, 0, 0, "", "")])
def test_every_row_must_have_something_to_learn(labels: Labels) -> None:
    """And there must be rows."""
    said = f"{labels.all_masked} of {labels.samples} rows have nothing to learn (every label is -100)"
    assert rules.labels_masked(labels) == said


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
    """As its users see it."""
    assert rules.eval_loss_flat(before, after) == flat
