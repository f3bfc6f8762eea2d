"""The checks that compare rows, a step and a forward with what they should have been."""

from __future__ import annotations

import dataclasses
import math

import builders as b
import deep_builders as d
import pytest
from builders import FULL, HELD_OUT, INT8, SHUFFLED, UNLISTED, healthy
from finetune_compat.checks import Outcome, Result
from finetune_compat.contract.records import ClassDifference
from finetune_compat.results.run_files import judge_one
from opinions import failures, results, why

# ---------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    ("trained", "message"),
    [
        ((*SHUFFLED[:8], -1), "of 9 training rows 1 are of no given set, 0 of the evaluation set"),
        ((*HELD_OUT[:2], *SHUFFLED[:6]), "of 8 training rows 0 are of no given set, 2 of the evaluation set"),
        ((*SHUFFLED[:8], *SHUFFLED[:2]), "2 training rows came more than once in epoch 1"),
        ((*SHUFFLED, *SHUFFLED[:2], SHUFFLED[0]), "1 training rows came more than once in epoch 2"),
        ((), "no training row was seen"),
    ],
)
def test_rows_that_were_not_given_are_named(trained: tuple[int, ...], message: str) -> None:
    """Unknown rows, rows of the evaluation set, and rows that repeat within an epoch of 64."""
    assert failures(b.with_rows(healthy(), trained=trained)) == {"B101": message}


def test_rows_of_a_second_epoch_are_those_of_the_first_in_another_order() -> None:
    """Training may end before all of them came again."""
    assert not failures(b.with_rows(healthy(), trained=(*SHUFFLED, *SHUFFLED[:16][::-1])))
    assert failures(b.with_rows(healthy(), trained=(*SHUFFLED, *SHUFFLED[:16]))) == {
        "B102": "the second epoch has the order of the first: its first 16 rows are the same"
    }


@pytest.mark.parametrize(
    ("evaluated", "message"),
    [
        (
            ((), HELD_OUT),
            (
                "the evaluation before training saw 0 rows: 16 of 16 are missing, 0 came more than once, "
                "0 are not of the evaluation set"
            ),
        ),
        (
            (HELD_OUT, HELD_OUT[:15]),
            (
                "the evaluation after training saw 15 rows: 1 of 16 are missing, 0 came more than once, "
                "0 are not of the evaluation set"
            ),
        ),
        (
            (HELD_OUT, (*HELD_OUT, 79, 3)),
            (
                "the evaluation after training saw 18 rows: 0 of 16 are missing, 1 came more than once, "
                "1 are not of the evaluation set"
            ),
        ),
    ],
)
def test_an_evaluation_of_other_rows_is_named(evaluated: tuple[tuple[int, ...], ...], message: str) -> None:
    """Before or after training: rows that are missing, that repeat, or that are training rows."""
    assert failures(b.with_rows(healthy(), evaluated=evaluated)) == {"B103": message}


def test_the_same_order_with_another_seed_is_named() -> None:
    """Compared are the rows of the first steps."""
    seen = d.deep()
    assert not failures(seen)
    assert set(failures(d.changed(seen, other_order=SHUFFLED[:16]))) == {"B104"}
    assert results(d.changed(seen, other_order=()))["B104"] is Result.NOT_APPLICABLE


# ------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": 0.0}, "dropout sets 0.0% of the inputs to zero in training, asked for 5.0%"),
        ({"training": 0.1}, "dropout sets 10.0% of the inputs to zero in training, asked for 5.0%"),
        ({"evaluation": 0.05}, "dropout is active in evaluation: it sets 5.0% of the inputs to zero"),
    ],
)
def test_dropout_that_is_not_as_asked_is_named(changes: dict[str, float], message: str) -> None:
    """Off or too strong in training, or on in evaluation."""
    assert failures(b.with_dropout(healthy(), **changes)) == {"P103": message}


def test_adapters_without_a_dropout_layer_drop_nothing() -> None:
    """Where dropout was asked for, that is a fault; where none was, it is not."""
    none = {"layers": 0, "training": None, "evaluation": None}
    assert set(failures(b.with_dropout(healthy(), **none))) == {"P103"}  # type: ignore[arg-type]
    assert not failures(b.with_dropout(healthy("sft-all-linear"), **none))  # type: ignore[arg-type]


def test_a_preference_trains_without_dropout() -> None:
    """DPOTrainer disables it by default."""
    seen = healthy("dpo-peft-config")
    assert set(failures(b.with_dropout(seen, training=0.05))) == {"P103"}


def test_a_flow_without_adapters_has_no_dropout_to_judge() -> None:
    """Its model has no dropout layer."""
    assert results(healthy("sft-full", FULL))["P103"] is Result.NOT_APPLICABLE


# ------------------------------------------------------------------------------------------------------------ gradient


@pytest.mark.parametrize("factor", [4, 10, 1 / 8, -1, 0.98, 0.0])
def test_a_gradient_of_another_size_is_named(factor: float) -> None:
    """Scaled by anything, also by a little, and reversed."""
    assert set(failures(b.gradient_scaled(healthy(), factor))) == {"G406"}


def test_a_gradient_of_another_direction_is_named() -> None:
    """As long as the reference, and at right angles to it."""
    turned = ClassDifference(0.5, 0.5, 0.5 * math.sqrt(2))
    assert failures(b.with_reference(healthy(), classes={"lora_A": turned})) == {
        "G406": "the gradient of step 2 is not that of its loss: lora_A off by 141.4% (norm 0.5, expected 0.5)"
    }


def test_a_gradient_that_is_not_finite_is_off_by_all_of_it() -> None:
    """Its norms cannot be compared."""
    assert set(failures(b.with_reference(healthy(), classes={"lora_A": ClassDifference(0.5, 0.5, math.nan)}))) == {
        "G406"
    }


def test_dividing_by_all_labels_is_allowed_where_rows_begin_with_one() -> None:
    """24 of the 25 labels of a row can be predicted: some releases divide by 25, in gradient and log."""
    seen = b.gradient_scaled(healthy(), 24 / 25)
    assert set(failures(seen)) == {"G406"}
    divided = b.with_reference(seen, predicted=192)
    assert not failures(divided)
    assert divided.training is not None and divided.training.reference is not None
    loss = divided.training.reference.loss * 24 / 25
    logged = dataclasses.replace(divided.training, loss=(loss,) * 10)
    assert not failures(dataclasses.replace(divided, training=logged))


def test_adapters_in_bfloat16_may_round_their_gradient() -> None:
    """By less than two percent, and not by ten."""
    for share, code in ((1.01, set()), (1.1, {"G406"})):
        rounded = b.adapter_dtypes(b.gradient_scaled(healthy(), share), ("bfloat16",), ("bfloat16",))
        assert set(failures(rounded)) == code


def test_a_logged_loss_of_another_batch_is_named() -> None:
    """The second step lost 4.86: of the first, and of twice that, nothing is known."""
    seen = healthy()
    assert seen.training is not None
    training = dataclasses.replace(seen.training, loss=(4.9, 9.72, *(4.8,) * 8))
    assert failures(dataclasses.replace(seen, training=training)) == {
        "E809": "the logged loss of step 2 is 9.7200, the loss of its batch is 4.8600"
    }


def test_a_logged_norm_at_one_step_is_enough() -> None:
    """The others are the norms measured at the tensors."""
    seen = healthy()
    assert seen.training is not None
    training = dataclasses.replace(seen.training, grad_norm_logged=(*(1.17,) * 4, 1.0, *(1.17,) * 5))
    assert failures(dataclasses.replace(seen, training=training)) == {
        "G407": "the logged gradient norm differs at 1 steps, first at step 5: 1, measured 1.17"
    }


# -------------------------------------------------------------------------------------------------- update and forward


def test_a_step_that_is_not_that_of_adamw_is_named() -> None:
    """The third of ten."""
    assert failures(b.with_update_error(healthy(), 0.01)) == {
        "O302": "1 steps are not those of AdamW as requested; step 3 is off by 1.0% of its length"
    }
    assert set(failures(b.with_update_error(healthy(), math.nan))) == {"O302"}


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"earlier": 0.1}, "B201", "another last token changes earlier logits by up to 0.1 (their spread: 0.5)"),
        ({"last": 0.0}, "B201", "another last token does not change the logits of its own position"),
        ({"padded": 0.1}, "B202", "padding changes logits by up to 0.1 (their spread: 0.5)"),
    ],
)
def test_a_forward_that_sees_what_it_should_not_is_named(changes: dict[str, float], code: str, message: str) -> None:
    """Later tokens, or padding; and a forward that does not see its input."""
    assert failures(b.with_forward(healthy(), **changes)) == {code: message}


@pytest.mark.parametrize("code", ["B201", "B202"])
def test_a_score_has_no_logits_of_tokens(code: str) -> None:
    """Nothing is missing from the record."""
    message = "the model has one score for each sequence, and no logits of its tokens"
    assert why(healthy("reward-peft-config", FULL), code) == (Result.NOT_APPLICABLE, message)


def test_int8_rounds_a_forward() -> None:
    """Its activations have 8 bits: by a little, and not by a tenth of the spread."""
    for change, code in ((0.01, set()), (0.05, {"B202"})):
        assert set(failures(b.with_forward(healthy(variant=INT8), padded=change))) == code


# ---------------------------------------------------------------------------------------------- nothing to judge


def test_a_cell_in_which_nothing_was_judged_does_not_pass() -> None:
    """It could not fail there."""
    seen = healthy()
    assert seen.training is not None
    verdict = judge_one(dataclasses.replace(seen, training=dataclasses.replace(seen.training, classes={})), UNLISTED)
    assert (verdict.outcome, verdict.failing) == (Outcome.INFRASTRUCTURE, ())
    assert verdict.reason == "could not tell: nothing to judge for gradients, weights"


def test_a_refused_cell_passes_without_training() -> None:
    """The trainer gave a fair reason."""
    assert judge_one(b.refused(healthy("sft-peft-model-and-config")), UNLISTED).outcome is Outcome.PASS
