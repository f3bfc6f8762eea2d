"""Values that two stacks compute differently for the same cell."""

from __future__ import annotations

import dataclasses

import pytest
from builders import VERSIONS, healthy
from finetune_compat.checks.drift import (
    SHORT_TOLERANCE,
    TOLERANCE,
    DriftKind,
    changes,
    definitions,
    drifts,
    script_changes,
)
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.records import Labels, Observation, Stage
from finetune_compat.report import measurements
from hypothesis import given
from hypothesis import strategies as st

A, B, C = "trl0.22-py311", "trl0.23-py311", "trl0.24-py311"


def measured(stack: str = A, *, loss: float = 4.9, reference: float = 4.9, **others: object) -> Observation:
    """Make a healthy cell with a loss before any update, and with the loss that the logits give."""
    seen = healthy(stack=stack, versions={**VERSIONS, "trl": stack[3:7] + ".0"})
    assert seen.training is not None
    evaluated = Labels(16, 400, 0, "1d" * 32, "1e" * 32, positions=400, ends=16)
    training = dataclasses.replace(
        seen.training, eval_before=loss, reference_before=reference, evaluated=evaluated, **others
    )
    return dataclasses.replace(seen, training=training, weights_sha256="ff" * 32)


def same_axis(left: str, right: str) -> bool:
    """All stacks here are on one axis."""
    return True


def test_the_same_numbers_are_no_drift() -> None:
    """Two stacks with equal values have no drift."""
    assert changes(measured(A), measured(B)) == ()
    assert drifts([A, B], [measured(A), measured(B)], same_axis) == ()
    assert definitions([A, B], [measured(A), measured(B)], same_axis) == ()


@given(st.floats(-0.9, 0.9))
def test_only_differences_that_matter_are_drift(factor: float) -> None:
    """The model's own loss may differ by rounding; a larger difference is reported with its size."""
    moved = measured(B, loss=4.9 * (1 + factor), reference=4.9 * (1 + factor))
    found = changes(measured(A), moved)
    assert bool(found) is (abs(moved.training.reference_before / 4.9 - 1) > TOLERANCE)  # type: ignore[union-attr, operator]
    assert all(change.kind is DriftKind.MODEL and change.size == pytest.approx(factor) for change in found)


def test_a_loss_that_is_divided_by_another_number_is_a_definition() -> None:
    """24 of 25: the loss over the shifted labels, divided by the number of all labels."""
    (change,) = changes(measured(A), measured(B, loss=4.9 * 24 / 25))
    assert change.kind is DriftKind.DEFINITION
    assert change.size == pytest.approx(-0.04)
    assert change.detail == "eval_loss is 1.0000 -> 0.9600 of the mean over label tokens"


def test_other_inputs_explain_another_loss() -> None:
    """A release that appends an end token changes the loss only by that: this is one change, not two."""
    ended = measured(B, loss=4.8, reference=4.8)
    assert ended.training is not None and ended.training.evaluated is not None
    labels = dataclasses.replace(ended.training.evaluated, ids_sha256="2d" * 32, label_tokens=384, ends=0)
    ended = dataclasses.replace(ended, training=dataclasses.replace(ended.training, evaluated=labels))
    (change,) = changes(ended, measured(A))
    assert change.kind is DriftKind.INPUTS
    old = "24 label tokens a row, 0 of 16 rows with an end token"
    assert change.detail == f"{old} -> 25 label tokens a row, 16 of 16 rows with an end token"


def trained(seen: Observation, loss: float, norm: float) -> Observation:
    """Give its first training step this loss and gradient."""
    assert seen.training is not None
    losses, norms = (loss, *seen.training.loss[1:]), (norm, *seen.training.grad_norm[1:])
    return dataclasses.replace(seen, training=dataclasses.replace(seen.training, loss=losses, grad_norm=norms))


def test_another_loss_that_is_trained_is_named_where_eval_loss_stays() -> None:
    """Transformers 4.46 divides the loss of a step by all its labels, including the first of a row: 23 of 24."""
    (change,) = changes(trained(measured(A), 4.8, 1.2), trained(measured(B), 4.6, 1.15))
    assert change.kind is DriftKind.TRAINED
    assert change.size == pytest.approx(-1 / 24)
    assert change.detail == "loss of the first step 4.8000 -> 4.6000, norm of its gradient 1.2000 -> 1.1500"


NAN = float("nan")


@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_a_number_on_one_side_alone_is_drift_whatever_it_is(value: float) -> None:
    """This covers the model's loss, the evaluation's loss, the training loss, and the norm of its gradient."""
    alike = trained(measured(A), 4.8, 1.2)
    for other, kind in (
        (measured(B, loss=value, reference=value), DriftKind.MODEL),
        (trained(measured(B, loss=value), 4.8, 1.2), DriftKind.DEFINITION),
        (trained(measured(B), value, 1.2), DriftKind.TRAINED),
        (trained(measured(B), 4.8, value), DriftKind.TRAINED),
    ):
        found = [change for pair in ((alike, other), (other, alike)) for change in changes(*pair)]
        assert [(change.kind, change.size) for change in found] == [(kind, float("inf"))] * 2


def test_no_number_on_either_side_is_no_drift() -> None:
    """Two stacks with equal values have no drift."""
    pair = [trained(measured(stack, loss=NAN, reference=NAN), NAN, NAN) for stack in (A, B)]
    assert changes(*pair) == ()


def of_sft_full(seen: Observation) -> Observation:
    """Use the same numbers for a cell of another flow."""
    return dataclasses.replace(
        seen, flow="sft-full", cell=str(dataclasses.replace(parse_cell(seen.cell), flow="sft-full"))
    )


def test_a_drift_says_where_a_number_is_missing() -> None:
    """The reported cell is the one without a number."""
    other = of_sft_full(measured(B, loss=NAN, reference=NAN))
    seen = [measured(A), of_sft_full(measured(A)), measured(B, loss=5.0, reference=5.0), other]
    (drift,) = drifts([A, B], seen, same_axis)
    assert drift.detail == "mean loss of the label tokens 4.900000 -> nan"
    assert "loss before any update is a number on one side alone, 2 cells" in measurements.drift_line(drift)


def test_a_log_that_rounds_is_no_drift() -> None:
    """Releases before 5.0 log four decimals."""
    assert changes(trained(measured(A), 4.8412, 1.2), trained(measured(B), 4.841171741485596, 1.2)) == ()


def test_another_first_loss_on_other_rows_is_left_to_the_rows() -> None:
    """Shuffled training rows are another batch, which is no fact about the loss."""
    other = trained(measured(B), 4.6, 1.15)
    assert other.labels is not None
    other = dataclasses.replace(other, labels=dataclasses.replace(other.labels, ids_sha256="3d" * 32))
    assert changes(trained(measured(A), 4.8, 1.2), other) == ()


def test_other_values_of_the_adapters_are_no_other_output_of_the_model() -> None:
    """An adapter that was made again or drawn from other random numbers changes the logits only by that."""
    other = measured(B, loss=5.0, reference=5.0)
    stages = tuple(
        dataclasses.replace(census, subject_sha256="5a" * 32) if census.name is Stage.TRAINER else census
        for census in other.stages
    )
    assert [change.kind for change in changes(measured(A), other)] == [DriftKind.MODEL]
    other = dataclasses.replace(other, stages=stages)
    assert [change.kind for change in changes(measured(A), other)] == [DriftKind.ADAPTER]


def test_another_dtype_and_another_batch_are_named() -> None:
    """Neither shows in a loss before any update."""
    other = measured(B)
    assert other.labels is not None
    stages = tuple(
        dataclasses.replace(census, adapter_dtypes=("bfloat16",)) if census.name is Stage.TRAINER else census
        for census in other.stages
    )
    other = dataclasses.replace(other, stages=stages, labels=dataclasses.replace(other.labels, samples=40))
    found = {change.kind: (change.size, change.detail) for change in changes(measured(A), other)}
    assert found == {
        DriftKind.BATCH: (None, "8 -> 4 rows a step"),
        DriftKind.DTYPE: (None, "float32 -> bfloat16"),
    }


def test_other_weights_make_all_else_incomparable() -> None:
    """This is reported instead of a drift."""
    other = dataclasses.replace(measured(B, loss=9.0, reference=9.0), weights_sha256="ee" * 32)
    assert [change.kind for change in changes(measured(A), other)] == [DriftKind.WEIGHTS]


def test_cells_that_did_not_train_are_not_compared() -> None:
    """A crash is reported by the checks."""
    assert changes(dataclasses.replace(measured(A), training=None), measured(B)) == ()


def test_a_drift_names_the_neighbours_the_cells_and_what_moved() -> None:
    """The window goes from the last stack with the old number to the first with the new one."""
    seen = [measured(A), measured(B), measured(C, loss=4.9 * 24 / 25)]
    (drift,) = drifts([A, B, C], seen, same_axis)
    assert (drift.before, drift.after, drift.kind) == (B, C, DriftKind.DEFINITION)
    assert drift.cells == ("sft-peft-model[qwen2-nf4-gc]@cpu",)
    assert drift.largest == pytest.approx(0.04)
    assert drift.moved == ("trl 0.23.0 -> 0.24.0",)


def test_a_stack_without_observations_is_skipped() -> None:
    """Its neighbours are compared across it; a change must not hide behind a stack that could not be installed."""
    (drift,) = drifts([A, B, C], [measured(A), measured(C, loss=5.0, reference=5.0)], same_axis)
    assert (drift.before, drift.after) == (A, C)


def test_stacks_of_two_axes_are_no_neighbours() -> None:
    """The last TRL and the first Transformers differ in everything."""
    seen = [measured(A), measured(B, loss=5.0, reference=5.0)]
    assert drifts([A, B], seen, lambda left, right: False) == ()


def test_neighbours_with_the_same_definition_are_one_window() -> None:
    """The window ends where the number changes."""
    off = 4.9 * 24 / 25
    seen = [measured(A, loss=off), measured(B, loss=off), measured(C)]
    (found,) = definitions([A, B, C], seen, same_axis)
    assert (found.stacks, found.cells) == ((A, B), ("sft-peft-model[qwen2-nf4-gc]@cpu",))
    assert found.ratio == pytest.approx(0.96)


class TestScripts:
    """The weights of a script are not digested, and its loss has no reference."""

    def seen(self, loss: float = 4.9, dtype: str = "float32", **others: object) -> Observation:
        """An observation of a script's trainer."""
        made = dataclasses.replace(measured(loss=loss, **others), weights_sha256=None)
        stages = tuple(dataclasses.replace(census, dtypes={dtype: 1}) for census in made.stages)
        return dataclasses.replace(made, stages=stages)

    @pytest.mark.parametrize(("dtype", "noise"), [("float32", TOLERANCE), ("bfloat16", SHORT_TOLERANCE)])
    def test_more_than_noise_is_drift(self, dtype: str, noise: float) -> None:
        """The noise follows from the dtype of the weights."""
        before = self.seen(dtype=dtype)
        assert script_changes(before, self.seen(4.9 * (1 + noise / 2), dtype)) == ()
        (found,) = script_changes(before, self.seen(4.9 * (1 + noise * 2), dtype))
        assert found.kind is DriftKind.MODEL
        assert found.detail == f"loss before any update 4.900000 -> {4.9 * (1 + noise * 2):.6f}"

    def test_another_first_loss_is_drift_where_nothing_was_evaluated(self) -> None:
        """A script without evaluation rows has the loss that it trains on."""
        before, after = (trained(self.seen(), loss, 1.0) for loss in (4.9, 4.4))
        before, after = (
            dataclasses.replace(seen, training=dataclasses.replace(seen.training, eval_before=None, evaluated=None))
            for seen in (before, after)
            if seen.training
        )
        assert [change.kind for change in script_changes(before, after)] == [DriftKind.TRAINED]

    def test_a_trainer_that_did_not_train_is_not_compared(self) -> None:
        """Its error is the change."""
        assert script_changes(self.seen(), dataclasses.replace(self.seen(), training=None)) == ()
