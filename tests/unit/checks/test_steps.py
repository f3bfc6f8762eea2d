"""Checks of the training steps: the message for each fault, the cases next to it that pass, and what blocks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders as b
import deep_builders as d
import pytest
from builders import BF16, FULL, NF4, VISION, healthy
from finetune_compat.checks import Outcome, Result, judge
from finetune_compat.contract.catalog import CATALOG, Flow, flow_named
from finetune_compat.contract.records import Observation, Precision, Stage, StepPair, Variant
from hypothesis import given
from hypothesis import strategies as st
from opinions import failures, judged, results, why

Cell = tuple[Flow, Variant]


Fault = Callable[[Observation], Observation]


CELLS = [(flow, variant) for flow in CATALOG for variant in flow.variants]


# ------------------------------------------------------------------------------------------------ L501 and L502: labels


def test_ends_that_are_no_labels_are_named() -> None:
    """The pad token is the end token, so the collator masks both: 24 of 25 labels are left, which L501 allows."""
    assert failures(b.ends_masked(healthy())) == {
        "L502": "the end token of 80 of 80 rows is not a label: the model never learns to stop"
    }


def test_one_end_that_is_no_label_is_one_too_many() -> None:
    """The message has the number."""
    seen = healthy()
    assert seen.labels is not None
    one = dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, ends_masked=1))
    assert failures(one) == {"L502": "the end token of 1 of 80 rows is not a label: the model never learns to stop"}


def test_rows_without_an_end_need_none() -> None:
    """Releases differ in whether they append an end token."""
    seen = healthy("trainer-peft-model", FULL)
    assert seen.labels is not None
    labels = dataclasses.replace(seen.labels, label_tokens=24 * 80, ends=0, ends_masked=0)
    assert why(dataclasses.replace(seen, labels=labels), "L502") == (
        Result.NOT_APPLICABLE,
        "no row had an end-of-sequence token",
    )
    assert not failures(dataclasses.replace(seen, labels=labels))


def test_masked_rows_explain_masked_ends() -> None:
    """If every label is masked, the end is too."""
    assert why(b.masked_labels(healthy()), "L502") == (Result.BLOCKED, "L501")


def test_a_flow_with_prompts_has_labels_on_its_completions_alone() -> None:
    """A row has exactly 14 words and an end token."""
    seen = healthy("rft-all-linear", NF4)
    assert seen.labels is not None
    for tokens, said in ((1_200, None), (2_000, "2,000"), (1_120, "1,120")):
        changed = dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, label_tokens=tokens))
        wanted = {"L501": f"{said} label tokens in 80 rows, expected 15 per row"} if said else {}
        assert failures(changed) == wanted


def test_either_number_of_labels_is_named_where_both_are_right() -> None:
    """Rows may have an end token or not."""
    seen = healthy()
    assert seen.labels is not None
    odd = dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, label_tokens=1_999))
    assert failures(odd) == {"L501": "1,999 label tokens in 80 rows, expected 24 or 25 per row"}


# -------------------------------------------------------------------------------------------------- R601: learning rate


def test_groups_with_different_learning_rates_are_named() -> None:
    """The first group follows the schedule; another one does not."""
    assert failures(b.rates_disagree(healthy())) == {
        "R601": "the optimizer's groups have different learning rates; the first had "
        "0.01, 0.009, 0.008, 0.007, 0.006, 0.005, 0.004, 0.003, 0.002, 0.001"
    }


# ------------------------------------------------------------------------------------------------------ G401: gradients


def test_gradients_that_never_reach_a_part_of_the_model_are_named_with_it() -> None:
    """Adapters on the vision encoder are behind a checkpoint whose input has no gradient."""
    assert failures(b.vision_cut_off(healthy(variant=VISION))) == {
        "G401": "of 40 trainable tensors 12 never received a gradient, 0 only zeros, 0 a non-finite one; "
        "while others changed, these stood still: 6 of 6 vision lora_A, 6 of 6 vision lora_B"
    }


def test_classes_are_not_named_where_none_was_reached() -> None:
    """G401 reports that no class received a gradient."""
    assert failures(b.zero_gradients(healthy())) == {
        "G401": "of 28 trainable tensors 0 never received a gradient, 28 only zeros, 0 a non-finite one"
    }


@pytest.mark.parametrize(
    ("flow", "variant", "kind", "last"),
    [
        ("sft-peft-model", NF4, "lora_A", 2),
        ("sft-peft-model", NF4, "lora_B", 1),
        ("sft-peft-model", VISION, "vision lora_A", 2),
        ("sft-peft-model", VISION, "vision lora_B", 1),
        ("sft-full", FULL, "embedding", 1),
        ("sft-full", FULL, "bias", 1),
    ],
)
def test_a_gradient_that_comes_late_is_named_with_its_step(flow: str, variant: Variant, kind: str, last: int) -> None:
    """lora_B starts at zero and delays lora_A by one step; all other classes have a gradient in the first step."""
    seen = healthy(flow, variant)
    assert not failures(b.late(seen, kind, last))
    assert failures(b.late(seen, kind, last + 1)) == {
        "G401": f"the first gradient other than zero came late: {kind} at step {last + 1}"
    }


def test_a_gradient_that_dies_later_is_named_with_its_steps() -> None:
    """The optimizer's state keeps weights moving and eval loss falling after that."""
    seen = healthy()
    assert seen.training is not None
    norms = (*seen.training.grad_norm[:8], 0.0, 0.0)
    training = dataclasses.replace(seen.training, grad_norm=norms, grad_norm_logged=norms)
    seen = dataclasses.replace(seen, training=training)
    assert failures(seen) == {"G401": "the whole gradient is exactly zero at step 9, 10"}


def test_every_class_that_is_late_is_named() -> None:
    """The classes are in the order in which they were found."""
    seen = b.late(b.late(healthy(), "lora_B", 2), "lora_A", 3)
    assert failures(seen) == {
        "G401": "the first gradient other than zero came late: lora_A at step 3, lora_B at step 2"
    }


def test_gradients_that_end_before_training_are_named_by_class() -> None:
    """The optimizer's state moves the weights afterwards, so no other check sees it."""
    seen = b.ends_early(b.ends_early(healthy(), "lora_A", "gradients", 2), "lora_B", "gradients", 9)
    assert failures(seen) == {
        "G405": "gradients other than zero ended before training did: lora_A after step 2 of 10, "
        "lora_B after step 9 of 10"
    }


def test_a_lora_a_that_never_had_a_gradient_is_no_fault_of_its_own_where_nothing_moved() -> None:
    """lora_B stayed zero, and so did the gradient of lora_A; W701 reports that nothing changed."""
    assert failures(b.no_step(healthy())) == {"W701": "no trained weight changed at all"}


# ----------------------------------------------------------------------------------------------- W701 and W702: weights


@pytest.mark.parametrize(
    ("flow", "variant", "kind", "said"),
    [
        ("sft-peft-model", NF4, "lora_A", "14 of 14 lora_A"),
        ("sft-peft-model", VISION, "vision lora_B", "6 of 6 vision lora_B"),
        ("sft-full", FULL, "head", "1 of 1 head"),
    ],
)
def test_a_class_that_stands_still_while_others_move_is_named(
    flow: str, variant: Variant, kind: str, said: str
) -> None:
    """It received gradients, and the optimizer holds it."""
    assert failures(b.stands_still(healthy(flow, variant), kind)) == {
        "W701": f"while others changed, these tensors stood still: {said}"
    }


def test_a_class_that_stops_moving_before_the_end_is_named_with_the_step() -> None:
    """Every tensor changed at some step, and gradients arrive until the last."""
    assert failures(b.ends_early(healthy("sft-full", FULL), "norm", "moving", 2)) == {
        "W703": "some tensors stopped changing before training ended: norm after step 2 of 10"
    }


def test_norms_of_a_model_trained_whole_in_bfloat16_may_stop_after_the_first_step() -> None:
    """Smaller steps are rounded away next to 1. Other tensors must move to the end, and so must all of an adapter."""
    whole = healthy("sft-full", BF16)
    assert failures(b.ends_early(whole, "norm", "moving", 1)) == {}
    assert failures(b.ends_early(whole, "head", "moving", 1)) == {
        "W703": "some tensors stopped changing before training ended: head after step 1 of 10"
    }
    assert set(failures(b.ends_early(healthy("sft-peft-config", BF16), "lora_B", "moving", 1))) == {"W703"}


def test_without_a_measurement_of_every_step_the_last_is_not_judged() -> None:
    """Older observations have neither number."""
    seen = healthy()
    assert seen.training is not None
    for kind in seen.training.classes:
        seen = b.ends_early(b.ends_early(seen, kind, "gradients", None), kind, "moving", None)
    assert not failures(seen)
    assert why(seen, "G405") == (
        Result.NOT_APPLICABLE,
        "recorded before the last step with a gradient was measured",
    )
    assert why(seen, "W703") == (
        Result.NOT_APPLICABLE,
        "recorded before the last step that changed a weight was measured",
    )
    assert (why(seen, "G401")[0], why(seen, "W701")[0]) == (Result.PASS, Result.PASS)


@pytest.mark.parametrize(("dtype", "said"), [("float32", Result.FAIL), ("bfloat16", Result.NOT_APPLICABLE)])
def test_bfloat16_may_round_the_last_steps_of_real_weights_away(dtype: str, said: Result) -> None:
    """Their learning rate ends at 2e-5, which bfloat16 loses next to a weight of 1."""
    seen = b.ends_early(b.real(), "lora_B", "moving", 9)
    assert results(b.adapter_dtypes(seen, (dtype,), (dtype,)))["W703"] is said


def test_weights_that_are_no_numbers_come_before_weights_that_stand_still() -> None:
    """The message names the more serious fault first."""
    seen = b.stands_still(healthy(), "lora_A")
    assert seen.training is not None
    broken = dataclasses.replace(seen, training=dataclasses.replace(seen.training, subject_finite=False))
    assert failures(broken) == {"W701": "some trained weights are NaN or infinite after training"}


@given(st.sampled_from(CELLS))
def test_frozen_weights_that_change_are_named(cell: Cell) -> None:
    """One changed tensor fails, in any flow."""
    flow, variant = cell
    seen = healthy(flow.name, variant)
    assert seen.training is not None and seen.training.frozen is not None
    assert failures(b.frozen_weights_changed(seen, "lm_head.weight")) == {
        "W702": f"1 of {seen.training.frozen.tensors} frozen tensors changed in training: lm_head.weight"
    }


def test_frozen_weights_that_changed_are_named_beside_frozen_adapters() -> None:
    """A freeze of the adapters does not change base weights, so C104 does not explain W702."""
    seen = b.frozen_weights_changed(b.frozen(healthy()))
    assert tuple(failures(seen)) == ("C104", "W702")


# --------------------------------------------------------------------------------------------------------- M901: memory


def test_tensors_that_outlive_the_flow_are_named() -> None:
    """The message has the excess, the amount before the flow and the maximum."""
    assert failures(b.leaking(healthy())) == {
        "M901": "365,312 bytes of tensors are alive after the flow, 2,048 before it (peak 900,000)"
    }


@pytest.mark.parametrize("fault", [b.no_step, b.frozen_loud, b.frozen])
def test_a_leak_is_reported_whatever_else_fails(fault: Fault) -> None:
    """No other failure explains it."""
    assert "M901" in failures(b.leaking(fault(healthy())))


def test_memory_is_not_judged_where_the_flow_could_not_begin() -> None:
    """There is no measurement."""
    seen = dataclasses.replace(healthy(), memory=None)
    assert why(seen, "M901") == (Result.NOT_APPLICABLE, "memory was not measured")


NAN, INF = float("nan"), float("inf")


# ---------------------------------------------------------------------------------------- G404 and E807: what is logged


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (NAN, "the logged gradient norm is not finite in 10 of 10 entries, first in entry 1: nan"),
        (INF, "the logged gradient norm is not finite in 10 of 10 entries, first in entry 1: inf"),
        (0.0, "the logged gradient norm is exactly 0 in all 10 entries"),
    ],
)
def test_a_logged_gradient_norm_that_is_none_is_named(value: float, said: str) -> None:
    """The gradients at the tensors are correct."""
    assert failures(b.gradient_norm_reported_as(healthy(), value)) == {"G404": said}


def test_one_logged_norm_that_is_no_number_is_enough() -> None:
    """One that is zero is a number, and not the norm of the gradient."""
    for value, code in ((INF, {"G404"}), (0.0, {"G407"})):
        norms = (1.17,) * 9 + (value,)
        seen = healthy()
        assert seen.training is not None
        seen = dataclasses.replace(seen, training=dataclasses.replace(seen.training, grad_norm_logged=norms))
        assert set(failures(seen)) == code


def test_a_norm_measured_at_the_tensors_is_judged_where_none_was_logged() -> None:
    """A trainer may log no norm; the measured norm must still be finite."""
    seen = healthy()
    assert seen.training is not None
    for logged in ((), None):
        training = dataclasses.replace(seen.training, grad_norm_logged=logged, grad_norm=(*(1.17,) * 9, NAN))
        assert failures(dataclasses.replace(seen, training=training)) == {
            "G404": "the norm measured at the tensors is not finite in 1 of 10 entries, first in entry 10: nan"
        }


def test_a_log_of_gradient_norms_that_was_never_read_is_no_pass() -> None:
    """Older observations lack the field."""
    seen = healthy()
    assert seen.training is not None
    training = dataclasses.replace(seen.training, grad_norm_logged=None)
    assert why(dataclasses.replace(seen, training=training), "G404") == (
        Result.NOT_APPLICABLE,
        "recorded before the trainer's own log of it was read",
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (NAN, "the logged training loss is not finite in 10 of 10 entries, first in entry 1: nan"),
        (-INF, "the logged training loss is not finite in 10 of 10 entries, first in entry 1: -inf"),
        (0.0, "the logged training loss is exactly 0 in all 10 entries: Trainer logs a loss of NaN as 0"),
    ],
)
def test_a_training_loss_that_is_not_finite_is_named(value: float, said: str) -> None:
    """All other fields are healthy: this is what a user of field note N4 saw."""
    assert failures(b.training_loss_reported_as(healthy(), value)) == {"E807": said}


def test_a_training_loss_that_reaches_zero_is_none_of_its_business() -> None:
    """A model may memorise its rows; releases before 5.0 log four decimals."""
    seen = healthy()
    assert seen.training is not None
    training = dataclasses.replace(seen.training, loss=(4.9, *(0.0,) * 9))
    assert why(dataclasses.replace(seen, training=training), "E807") == (Result.PASS, "")


def test_a_training_loss_that_was_not_logged_is_no_pass() -> None:
    """The check does not apply."""
    seen = healthy()
    assert seen.training is not None
    nothing = dataclasses.replace(seen, training=dataclasses.replace(seen.training, loss=()))
    assert why(nothing, "E807") == (Result.NOT_APPLICABLE, "the trainer logged no training loss")


def test_a_preference_has_two_sequences_to_a_row() -> None:
    """They are the chosen and the rejected sequence."""
    seen = healthy("dpo-peft-config")
    assert seen.labels is not None
    labels = dataclasses.replace(seen.labels, samples=80, label_tokens=80 * 15)
    assert failures(dataclasses.replace(seen, labels=labels))["L501"] == (
        "80 training rows in 10 steps, expected 16 per step"
    )


# --------------------------------------------------------------------------------------------------------- real weights


def test_a_real_tokenizer_may_make_any_number_of_tokens_of_a_row() -> None:
    """Tiny models have one token for each word, and must have as many labels."""
    for seen, said in ((b.real(), Result.PASS), (healthy(), Result.FAIL)):
        assert seen.labels is not None
        longer = dataclasses.replace(seen, labels=dataclasses.replace(seen.labels, label_tokens=80 * 71))
        assert why(longer, "L501")[0] is said


def test_rows_without_labels_are_a_fault_of_real_weights_too() -> None:
    """Nothing can be learned from them with any tokenizer."""
    assert failures(b.masked_labels(b.real()))["L501"] == "80 of 80 rows have nothing to learn (every label is -100)"


def test_real_weights_that_cannot_be_built_are_one_error() -> None:
    """Their sizes are unknown, and the message only says why."""
    seen = dataclasses.replace(b.failed(b.real(), "NoStageTable", "no class", Stage.LOAD), sizes=None, attention=None)
    assert failures(seen) == {"F001": "NoStageTable at load: no class"}


def test_a_flow_without_training_and_without_an_error_does_not_pass() -> None:
    """Neither an error nor training is recorded."""
    assert failures(dataclasses.replace(healthy(), training=None, labels=None)) == {
        "F001": "the flow ended without an error and without training"
    }


def test_training_without_labels_does_not_pass() -> None:
    """Ten steps ran, and no labels were recorded."""
    assert failures(dataclasses.replace(healthy(), labels=None)) == {"L501": "training ran and no batch had labels"}


def test_fewer_steps_than_asked_for_do_not_pass() -> None:
    """A trainer that stops early did not train what was requested."""
    seen = healthy()
    assert seen.training is not None
    short = dataclasses.replace(seen.training, steps=100)
    assert failures(dataclasses.replace(seen, training=short)) == {"F001": "training ended after 10 of 100 steps"}


def test_labels_that_went_missing_are_a_failure() -> None:
    """A row has as many labels as words, and as many rows are trained on as the steps take."""
    seen = healthy("sft-full", Variant("qwen2", Precision.FULL, gradient_checkpointing=True))
    assert seen.labels is not None
    for labels in (
        dataclasses.replace(seen.labels, label_tokens=80),
        dataclasses.replace(seen.labels, samples=40, label_tokens=1000),
    ):
        assert judge(dataclasses.replace(seen, labels=labels), flow_named("sft-full"), ()).failing == ("L501",)


NOGC = Variant("qwen2", Precision.FULL, False)


# --------------------------------------------------------------------------------------------------- G402: accumulation


def test_accumulation_that_multiplies_gradients_is_named_by_g402_alone() -> None:
    """4 instead of 0.5 differs by 1.5 of 2, which is three quarters of the larger."""
    seen = d.changed(d.deep(), accumulation=d.scaled(4))
    assert judged(seen).failing == ("G402",)
    assert why(seen, "G402")[1] == (
        "4 rows at once and 4 rows one by one give different steps: gradient of lora_A off by 75.0% (norms 0.5 and 2), "
        "gradient of lora_B off by 75.0% (norms 2 and 8)"
    )


def test_accumulation_that_multiplies_the_reported_loss_is_named_by_g402_alone() -> None:
    """The steps are correct, and the log is wrong."""
    seen = d.changed(d.deep(), accumulation=d.scaled(1, loss_factor=4))
    assert judged(seen).failing == ("G402",)
    assert why(seen, "G402")[1] == (
        "4 rows at once and 4 rows one by one give different steps: reported loss 4.8000 and 19.2000"
    )


def test_a_loss_rounded_to_four_decimals_is_the_same_loss() -> None:
    """Older releases round what they report."""
    seen = d.changed(d.deep(), accumulation=dataclasses.replace(d.scaled(1), loss_one=4.79996, loss_other=4.8))
    assert judged(seen).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("dtype", "factor", "result"),
    [
        ("float32", 1.0009, Result.PASS),
        ("float32", 1.0012, Result.FAIL),
        ("bfloat16", 1.019, Result.PASS),
        ("bfloat16", 1.022, Result.FAIL),
    ],
)
def test_gradients_in_bfloat16_may_be_rounded_more(dtype: str, factor: float, result: Result) -> None:
    """The limit is a thousandth in float32 and a fiftieth in bfloat16."""
    seen = b.adapter_dtypes(d.changed(d.deep(), accumulation=d.scaled(factor)), (dtype,), (dtype,))
    assert why(seen, "G402")[0] is result


def test_a_gradient_that_is_not_finite_differs_wholly() -> None:
    """NaN is not a small difference."""
    assert why(d.not_finite(d.deep()), "G402") == (
        Result.FAIL,
        "4 rows at once and 4 rows one by one give different steps: gradient of lora_A off by inf% (norms 0.5 and nan)",
    )


def test_other_rows_are_no_comparison() -> None:
    """Values from other labels cannot be compared, and this is a finding."""
    seen = d.changed(d.deep(), accumulation=StepPair(4.8, 4.8, False, {}))
    assert why(seen, "G402")[1] == "4 rows at once and 4 rows one by one were not given the same rows and labels"


# -------------------------------------------------------------------------------------------------- G403: checkpointing


def test_gradients_that_checkpointing_makes_zero_are_named_by_g403_alone() -> None:
    """The gradients are present and zero."""
    seen = d.changed(d.deep(), checkpointing=d.zeroed("lora_A"))
    assert judged(seen).failing == ("G403",)
    assert why(seen, "G403")[1] == (
        "no checkpointing and checkpointing give different steps: gradient of lora_A off by 100.0% (norms 0.5 and 0)"
    )


def test_a_variant_without_checkpointing_has_nothing_to_compare() -> None:
    """The check does not apply."""
    seen = d.changed(d.deep(b.healthy(variant=NOGC)), checkpointing=None)
    assert why(seen, "G403") == (Result.NOT_APPLICABLE, "the step was not computed in both ways")


@pytest.mark.parametrize(("measurement", "code"), [("accumulation", "G402"), ("checkpointing", "G403")])
def test_a_step_that_ends_in_an_error_is_a_finding(measurement: str, code: str) -> None:
    """The flow succeeded, and the measurement of a step did not."""
    seen = d.ended(d.deep(), measurement)
    assert judged(seen).failing == (code,)
    assert why(seen, code)[1] == f"{measurement} could not be measured: RuntimeError at training: planted"


def test_layers_that_stand_still_are_named() -> None:
    """Half of each class stands still, which is one whole layer."""
    assert why(d.half_still(b.healthy()), "W701") == (
        Result.FAIL,
        "while others changed, these tensors stood still: 7 of 14 lora_A, 7 of 14 lora_B, all of layers.1",
    )
