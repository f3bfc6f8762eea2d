"""Checks of the model at each stage: the message for each fault, the cases next to it that pass, and what blocks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders as b
import pytest
from builders import ADAPTER, BF16, FULL, INT8, NF4, VISION, healthy
from finetune_compat.checks import Outcome, Result, judge
from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.records import (
    Absence,
    AbsentStage,
    Area,
    AreaCount,
    Attention,
    Observation,
    Precision,
    Reply,
    Stage,
    Variant,
)
from opinions import failures, results, why

Fault = Callable[[Observation], Observation]


GATED = Variant("qwen2.5-vl+vision", Precision.NF4, True)


# ----------------------------------------------------------------------------------------------- P102 and D801: loading


def test_another_attention_than_asked_for_is_named() -> None:
    """A model class without the requested implementation falls back silently."""
    assert failures(b.other_attention(healthy())) == {"P102": "asked for sdpa attention, the model uses eager"}


@pytest.mark.parametrize("attention", [None, Attention("sdpa", None)])
def test_attention_is_not_judged_where_nothing_says_what_is_used(attention: Attention | None) -> None:
    """The flow ended before its model was loaded, or the model does not report it."""
    seen = dataclasses.replace(healthy(), attention=attention)
    assert why(seen, "P102") == (Result.NOT_APPLICABLE, "the model was not loaded, or does not report its attention")


@pytest.mark.parametrize("asked", ["sdpa", "eager", "flash_attention_2"])
def test_any_attention_is_right_that_was_asked_for(asked: str) -> None:
    """The requested attention comes from the plan."""
    assert not failures(dataclasses.replace(healthy(), attention=Attention(asked, asked)))


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        # 36,864 bytes of packed weights; 73,728 in int8; the rest is 16,704 and 256 biases.
        (NF4, "weights are float16 (16,960 elements) and uint8 (36,864 elements) at load, asked for float32 and uint8"),
        (INT8, "weights are float16 (16,960 elements) and int8 (73,728 elements) at load, asked for float32 and int8"),
        (FULL, "weights are float16 (90,688 elements) at load, asked for float32"),
        # Of Qwen2.5-VL: (73,728 + 57,344) / 2 packed; 16,704 + 3,232 and biases 256 + 1,024.
        (
            GATED,
            "weights are float16 (21,216 elements) and uint8 (65,536 elements) at load, asked for float32 and uint8",
        ),
    ],
)
def test_weights_of_another_dtype_than_asked_for_are_named(variant: Variant, said: str) -> None:
    """The dtype is checked on whatever stores the quantized weights."""
    assert failures(b.half_precision_at_load(healthy(variant=variant))) == {"D801": said}


def test_weights_that_were_not_quantized_are_named() -> None:
    """The loader ignored the quantization config."""
    whole = b.at_stage(healthy(variant=INT8), Stage.LOAD, dtypes={"float32": 90_688})
    assert failures(whole) == {"D801": "weights are float32 (90,688 elements) at load, asked for float32 and int8"}


@pytest.mark.parametrize("stage", [Stage.PEFT, Stage.TRAINER, Stage.AFTER_TRAINING, Stage.RELOAD])
def test_weights_that_are_cast_later_are_named_with_the_stage(stage: Stage) -> None:
    """A norm of 64 is in half precision; of 107,072 parameters the 16,384 of the adapters are not the base model's."""
    cast = b.at_stage(healthy(variant=FULL), stage, dtypes={"float32": 107_008, "bfloat16": 64})
    assert failures(cast) == {"D801": f"the base model has bfloat16 (64 elements) at {stage}, asked for float32"}


def test_adapters_of_another_dtype_are_not_taken_for_weights() -> None:
    """D801 judges the base model, D802 the adapters."""
    seen = b.adapter_dtypes(healthy(variant=FULL), ("bfloat16",), ("bfloat16",))
    kept = {"float32": 90_688, "bfloat16": 16_384}
    for stage in (Stage.TRAINER, Stage.AFTER_TRAINING):
        seen = b.at_stage(seen, stage, dtypes=kept)
    assert set(failures(seen)) == {"D802"}


def test_dtypes_are_not_judged_where_nothing_was_loaded() -> None:
    """F001 reports a flow that ended earlier."""
    seen = b.failed(healthy(), "OSError", "gone", Stage.LOAD)
    assert why(seen, "D801") == (Result.NOT_APPLICABLE, "no census at load")
    assert failures(seen) == {"F001": "OSError at load: gone"}


# ------------------------------------------------------------------------------------ C120 and D802: where adapters are


def test_adapters_on_another_part_of_the_model_are_named() -> None:
    """Their number is as requested, but they are on layers of the vision encoder with the same names."""
    assert failures(b.adapters_elsewhere(healthy(variant=VISION))) == {
        "C120": "adapters sit on vision 23,552, expected language 16,384, vision 7,168"
    }


@pytest.mark.parametrize(
    ("sits", "said"),
    [
        ({}, "nothing"),
        ({Area.LANGUAGE: 16_383}, "language 16,383"),
        ({Area.LANGUAGE: ADAPTER, Area.PROJECTOR: 8}, "language 16,384, projector 8"),
    ],
)
def test_adapters_are_held_to_each_part_exactly(sits: dict[Area, int], said: str) -> None:
    """One parameter too few or one layer too many fails."""
    seen = b.at_stage(healthy(), Stage.TRAINER, adapters_on={area: AreaCount(n, n) for area, n in sits.items()})
    assert failures(seen) == {"C120": f"adapters sit on {said}, expected language 16,384"}


def test_a_part_without_adapters_may_be_counted() -> None:
    """A count of zero is no adapter."""
    counted = {Area.LANGUAGE: AreaCount(ADAPTER, ADAPTER), Area.VISION: AreaCount(0, 0)}
    assert not failures(b.at_stage(healthy(), Stage.TRAINER, adapters_on=counted))


def test_the_place_of_adapters_is_not_judged_without_adapters() -> None:
    """Such a model has no adapters."""
    assert why(healthy("sft-full", FULL), "C120") == (Result.NOT_APPLICABLE, "no adapters, or none counted at trainer")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_adapters_of_quantized_models_may_have_either_dtype_that_trains(dtype: str) -> None:
    """TRL from 0.26 on uses bfloat16 for them."""
    assert not failures(b.adapter_dtypes(healthy(), (dtype,), (dtype,)))


def test_adapters_of_a_model_in_float32_have_float32() -> None:
    """bfloat16 loses small updates that the user did not agree to lose."""
    seen = b.adapter_dtypes(healthy(variant=FULL), ("bfloat16",), ("bfloat16",))
    assert failures(seen) == {"D802": "adapters are bfloat16 at trainer, bfloat16 at after-training"}
    assert not failures(b.adapter_dtypes(healthy(variant=BF16), ("bfloat16",), ("bfloat16",)))


@pytest.mark.parametrize(
    ("at_trainer", "after", "said"),
    [
        (
            ("bfloat16", "float32"),
            ("bfloat16", "float32"),
            "bfloat16 and float32 at trainer, bfloat16 and float32 at after-training",
        ),
        (("float16",), ("float16",), "float16 at trainer, float16 at after-training"),
        (("float32",), ("bfloat16",), "float32 at trainer, bfloat16 at after-training"),
    ],
)
def test_adapters_in_mixed_changing_or_half_precision_are_named(
    at_trainer: tuple[str, ...], after: tuple[str, ...], said: str
) -> None:
    """float16 loses small steps; a mixture or a change of dtypes means that something casts silently."""
    assert failures(b.adapter_dtypes(healthy(), at_trainer, after)) == {"D802": f"adapters are {said}"}


def test_adapters_that_are_reloaded_in_less_than_they_were_trained_in_are_named() -> None:
    """A reload in float32 is never less."""
    half = b.at_stage(healthy(), Stage.RELOAD, adapter_dtypes=("bfloat16",))
    said = "float32 at trainer, float32 at after-training, bfloat16 at reload"
    assert failures(half) == {"D802": f"adapters are {said}"}
    assert not failures(b.adapter_dtypes(half, ("bfloat16",), ("bfloat16",)))


def test_the_dtype_of_adapters_is_judged_where_training_did_not_end() -> None:
    """The dtype after the trainer's constructor is known."""
    seen = b.failed(b.adapter_dtypes(healthy(), ("float16",), ("float16",)), "RuntimeError", "x", Stage.TRAINING)
    assert why(seen, "D802") == (Result.FAIL, "adapters are float16 at trainer")
    assert why(healthy("sft-full", FULL), "D802") == (Result.NOT_APPLICABLE, "no adapters at trainer")


# ------------------------------------------------------------------------------------------ A203 and A204: what it says


def test_adapters_without_an_effect_are_named() -> None:
    """They changed, and the model's forward does not use them. A reload that uses them gives other logits."""
    seen = b.without_effect(healthy())
    assert failures(seen) == {"A204": "the same logits with the adapters on and off"}
    assert why(seen, "A203") == (Result.PASS, "")
    assert seen.reply is not None
    back = dataclasses.replace(seen, reply=dataclasses.replace(seen.reply, reloaded=1.7))
    assert why(back, "A203") == (Result.BLOCKED, "A204")


def test_an_effect_is_not_asked_of_a_model_trained_whole() -> None:
    """There is nothing to switch off."""
    assert why(healthy("sft-full", FULL), "A204") == (
        Result.NOT_APPLICABLE,
        "no adapters, or no logits of the trained model",
    )


@pytest.mark.parametrize("fault", [b.no_step, b.zero_gradients, b.empty_optimizer, b.frozen])
def test_adapters_that_never_moved_need_no_effect(fault: Fault) -> None:
    """A lora_B of zeros has no effect, and another check reports why."""
    assert results(fault(healthy()))["A204"] is Result.BLOCKED


def test_a_reload_that_answers_otherwise_is_named_with_what_is_allowed() -> None:
    """The limit is a twentieth of the adapters' effect of 2.2, because the reload may use another dtype."""
    assert failures(b.reload_answers_otherwise(healthy())) == {
        "A203": "logits of the reloaded model are off by up to 1.1, allowed 0.11"
    }


@pytest.mark.parametrize(("off", "passes"), [(0.0, True), (0.1, True), (0.11, False), (float("nan"), False)])
def test_a_reload_may_differ_by_a_twentieth_of_the_effect(off: float, *, passes: bool) -> None:
    """More than that fails, and so does NaN."""
    seen = dataclasses.replace(healthy(), reply=Reply(2.0, off))
    assert (results(seen)["A203"] is Result.PASS) is passes


def test_a_model_trained_whole_is_reloaded_exactly() -> None:
    """It has no adapter effect that a difference could be compared with."""
    seen = dataclasses.replace(healthy("sft-full", FULL), reply=Reply(None, 1e-6))
    assert failures(seen) == {"A203": "logits of the reloaded model are off by up to 1e-06, allowed 0"}


@pytest.mark.parametrize(
    ("dtypes", "off", "passes"),
    [({"bfloat16": 90_688}, 1e-6, False), ({"float32": 90_688}, 0.05, True), ({"float32": 90_688}, 0.06, False)],
)
def test_a_model_trained_whole_in_bfloat16_may_be_reloaded_in_float32(
    dtypes: dict[str, int], off: float, *, passes: bool
) -> None:
    """Equal weights then give other logits; in one dtype they give equal ones."""
    seen = b.at_stage(healthy("sft-full", BF16), Stage.RELOAD, dtypes=dtypes)
    assert (results(dataclasses.replace(seen, reply=Reply(None, off)))["A203"] is Result.PASS) is passes


def test_a_reload_that_was_not_reached_is_not_judged() -> None:
    """There is no measurement."""
    seen = dataclasses.replace(healthy(), reply=Reply(2.2, None))
    assert why(seen, "A203") == (Result.NOT_APPLICABLE, "no logits of the reloaded model")


@pytest.mark.parametrize(
    ("fault", "blocker"),
    [
        (b.reload_differs, "A202"),
        (b.frozen_weights_changed, "W702"),
    ],
)
def test_other_values_explain_a_reload_that_differs(fault: Fault, blocker: str) -> None:
    """An adapter was saved wrongly, or the base model changed."""
    seen = fault(b.reload_answers_otherwise(healthy()))
    assert why(seen, "A203") == (Result.BLOCKED, blocker)
    assert tuple(failures(seen)) == (blocker,)


@pytest.mark.parametrize(("off", "named"), [(0.2, ("A201",)), (0.23, ("A201", "A203"))])
def test_a_merged_adapter_explains_a_small_difference(off: float, named: tuple[str, ...]) -> None:
    """A tenth of the effect of 2.2 at most: the reload lacks only what was merged into the base."""
    seen = b.adapter_replaced(dataclasses.replace(healthy(), reply=Reply(2.2, off)))
    assert tuple(failures(seen)) == named


@pytest.mark.parametrize(("off", "named"), [(2.2, ("A201", "A202")), (1.1, ("A201", "A202", "A203"))])
def test_a_lost_adapter_explains_the_answers_of_the_base(off: float, named: tuple[str, ...]) -> None:
    """A reload without the trained adapter differs by exactly the effect of the adapter."""
    lost = b.adapter_replaced(b.reload_differs(healthy()))
    assert tuple(failures(dataclasses.replace(lost, reply=Reply(2.2, off)))) == named


# --------------------------------------------------------------------------------------------------------- real weights


def test_real_weights_that_are_not_what_their_config_says_are_named() -> None:
    """90,688 parameters less the head's 8,192 and with 16,384 of adapters; one parameter more fails."""
    more = b.at_stage(b.real(), Stage.TRAINER, total=62_017, total_logical=98_881)
    assert failures(more) == {
        "C110": "98,881 logical and 62,017 stored parameters, expected 98,880 and 62,016",
    }


def test_answers_of_real_weights_are_compared_in_the_same_dtypes_only() -> None:
    """Preparation turns loaded bfloat16 into float32, and a reload does not: the difference is rounding."""
    off = b.real()
    off = dataclasses.replace(off, reply=Reply(2.2, 0.5))
    same = b.at_stage(b.at_stage(off, Stage.AFTER_TRAINING, dtypes={"float32": 9}), Stage.RELOAD, dtypes={"float32": 9})
    assert failures(same) == {"A203": "logits of the reloaded model are off by up to 0.5, allowed 0.11"}
    # The last has the same two dtypes in other amounts: TRL has the adapters in bfloat16, a reload the base model.
    for there in ({"bfloat16": 9}, {"float32": 4, "bfloat16": 5}):
        trained = b.at_stage(same, Stage.AFTER_TRAINING, dtypes={"float32": 5, "bfloat16": 4})
        other = b.at_stage(trained, Stage.RELOAD, dtypes=there)
        assert why(other, "A203") == (
            Result.NOT_APPLICABLE,
            "the dtypes in training and after the reload differ",
        )


@pytest.mark.parametrize("reason", [Absence.NOT_REACHED, Absence.NOT_CALLED, Absence.NOT_IN_FLOW])
def test_no_excuse_stands_for_the_trainers_census_of_a_flow_without_an_error(reason: Absence) -> None:
    """The reason contradicts other fields, or is not valid for this stage."""
    seen = healthy()
    stages = tuple(census for census in seen.stages if census.name is not Stage.TRAINER)
    absent = (AbsentStage(Stage.TRAINER, reason),)
    assert failures(dataclasses.replace(seen, stages=stages, absent=absent)) == {
        "C104": f"no census at trainer, and no good reason for its absence ({reason})"
    }


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.PEFT])
@pytest.mark.parametrize("reason", [Absence.NOT_REACHED, Absence.NOT_IN_FLOW, None])
def test_only_a_step_that_was_not_called_may_be_missing_where_steps_are_optional(
    stage: Stage, reason: Absence | None
) -> None:
    """Preparation and wrapping may be left to others; a flow that succeeded cannot have failed to reach them."""
    seen = healthy()
    stages = tuple(census for census in seen.stages if census.name is not stage)
    absent = (AbsentStage(stage, reason),) if reason else ()
    said = failures(dataclasses.replace(seen, stages=stages, absent=absent))
    code = "C102" if stage is Stage.PREPARE else "C103"
    assert said == {code: f"no census at {stage}, and no good reason for its absence ({reason or 'none recorded'})"}


def test_adapters_without_a_digest_do_not_count_as_kept() -> None:
    """Two missing digests are not two equal digests."""
    seen = healthy()
    stages = tuple(dataclasses.replace(census, subject_sha256=None) for census in seen.stages)
    assert failures(dataclasses.replace(seen, stages=stages)) == {
        "A201": "no digest of the adapter passed to the trainer",
        "A202": "no digest of the trained values",
    }


def test_an_option_no_name_accepts_is_a_failure() -> None:
    """A cell without the option in its name is another cell; only `loss_type` may be missing."""
    seen = healthy("sft-full", Variant("qwen2", Precision.FULL, gradient_checkpointing=True))
    lost = dataclasses.replace(seen, options_dropped=("loss_type", "gradient_checkpointing"))
    assert (
        judge(dataclasses.replace(seen, options_dropped=("loss_type",)), flow_named("sft-full"), ()).outcome
        is Outcome.PASS
    )
    assert judge(lost, flow_named("sft-full"), ()).failing == ("P101",)
