"""Sentences and labels of a census."""

from __future__ import annotations

import dataclasses

import pytest
from census_builders import V0_12, linear, parameter, qwen, table, taken
from finetune_compat.census import terminal, wording
from finetune_compat.census.compare import Figure, Shift
from finetune_compat.census.lora import Lora
from finetune_compat.census.taken import Way, trainers
from finetune_compat.census.verdicts import Code, TargetFinding
from finetune_compat.census.wording import advice, listed, sentence
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.census import LoadDtype, Quantization
from finetune_compat.contract.records import Area, Stage


def test_a_target_that_matches_nothing_is_a_verdict() -> None:
    """The message suggests a similar name, or says where the name exists."""
    here = taken(qwen("q_proj"), "q_proj,q_prj")
    (finding,) = here.findings
    assert (finding.code, finding.patterns) == (Code.UNMATCHED, ("q_prj",))
    assert sentence(finding, here) == "q_prj: matches nothing."
    assert advice(finding, here).startswith("Did you mean q_proj for q_prj?")
    moved = taken(qwen("q_proj"), "q_proj,model.layers.0.self_attn.k_proj")
    assert moved.findings[0].code is Code.UNMATCHED
    assert advice(moved.findings[0], moved) == (
        "In this model it is at model.language_model.layers.[0-27].self_attn.k_proj."
    )


def test_what_no_cell_reached_is_unmeasured() -> None:
    """No quantized model of Transformers 4.46 loads on a CPU, so no trainer of TRL 0.12 was measured with one."""
    why = "not measured: Transformers before 4.53 does not load quantized weights on a CPU"
    for trainer in trainers(qwen("q_proj"), Quantization.NF4, V0_12, load_ledger()):
        assert listed(trainer) == why
    for trainer in trainers(qwen("q_proj"), Quantization.NONE, V0_12, load_ledger()):
        assert listed(trainer) == ""


@pytest.mark.parametrize(("part", "text"), [(1, "0.0122"), (8_192, "100.0000"), (0, "0.0000")])
def test_a_share_has_the_decimals_of_peft(part: int, text: str) -> None:
    """PEFT prints four; 1 of 8,192 is 0.01220703125 %."""
    assert wording.percent(part, 8_192) == text


def test_the_request_names_quantization_dtype_and_targets() -> None:
    """Defaults that PEFT chooses are called so."""
    here = taken(qwen("q_proj"), "q_proj,v_proj")
    assert wording.request(here) == "NF4, the rest in bf16. LoRA r=8 on q_proj v_proj"
    plain = dataclasses.replace(here, quantization=Quantization.NONE, dtype=LoadDtype.FP32, lora=Lora({}, "file"))
    assert wording.request(plain) == ("fp32. LoRA r=PEFT's default on the default targets of PEFT for this model")
    assert wording.titled(here) == "Qwen2-VL 7B on trl0.22-py311: Model"


@pytest.mark.parametrize("way", Way)
def test_every_way_to_a_trainer_has_a_name_that_fits_its_column(way: Way) -> None:
    """The table's first column has a fixed width."""
    assert len(wording.way(way)) <= terminal.NAME - 2


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (Shift(Stage.PEFT, Figure.TRAINABLE, None, 0, 1), "trainable"),
        (Shift(Stage.PEFT, Figure.TRAINABLE, Area.VISION, 0, 1), "trainable, vision"),
        (Shift(Stage.PEFT, Figure.ADAPTERS, Area.VISION, 0, 1), "adapters on vision"),
        (Shift(Stage.PEFT, Figure.STORED, None, 0, 1), "stored"),
        (Shift(Stage.PEFT, Figure.LOGICAL, None, 0, 1), "logical"),
    ],
)
def test_a_changed_count_has_the_name_of_its_row(changed: Shift, text: str) -> None:
    """The area is named where there is one."""
    assert wording.shift(changed) == text


def test_experts_without_an_adapter_have_their_share_and_the_option_that_reaches_them() -> None:
    """28 layers of 8 x 64 x 128 are 1,835,008 weights; the model has a million in this table's totals."""
    experts = table(linear("m.q_proj", "q_proj"), parameter("m.mlp.experts.down_proj", 8, 64, 128))
    here = taken(experts, "q_proj,down_proj")
    unreached, unquantized = here.findings
    assert wording.sentence(unreached, here) == (
        "down_proj: held in one tensor of all experts here, m.mlp.experts.down_proj: 1,835,008 weights, "
        "183.5 % of the model, without an adapter."
    )
    assert "--target-parameters experts.down_proj (PEFT 0.17 or later)" in wording.advice(unreached, here)
    assert wording.sentence(unquantized, here).startswith("NF4 is for linear layers only, unlike m.mlp.experts")
    # 2 bytes each in bf16, 4 in float32: below half a gigabyte, both are rounded to none.
    assert wording.advice(unquantized, here).startswith("They take 0 GB, and 0 GB if ")


def test_a_pattern_that_reaches_the_vision_encoder_has_a_narrower_one() -> None:
    """A list becomes an expression with a component that only the language model has."""
    here = taken(qwen("q_proj", vision=["q_proj"]), "q_proj")
    [found] = [finding for finding in here.findings if finding.code is Code.ELSEWHERE]
    assert wording.sentence(found, here) == (
        "q_proj: also in the vision encoder, 32 modules with 32,768 adapter parameters."
    )
    assert wording.advice(found, here) == (r"If that is not intended: --targets '.*\blanguage_model\b.*\.(q_proj)'")


def test_many_places_are_counted() -> None:
    """Four are named."""
    frozen = TargetFinding(Code.UNMATCHED, ("x",), tuple(linear(f"m.layer{number}.x") for number in range(6)))
    assert wording.advice(frozen, taken(qwen("q_proj"), "x")) == (
        "In this model it is at m.layer0.x, m.layer1.x, m.layer2.x, m.layer3.x and 2 more."
    )
