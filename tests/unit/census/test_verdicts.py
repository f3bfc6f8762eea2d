"""Whether the stage table does what a user means by the targets."""

from __future__ import annotations

import dataclasses

import pytest
from census_builders import codes, linear, lora, parameter, qwen, table
from finetune_compat.census.lora import Lora
from finetune_compat.census.verdicts import Code, TargetFinding, findings, last_names, named_by
from finetune_compat.contract.census import Quantization, Refusal
from finetune_compat.contract.records import Area

# -------------------------------------------------------------------------------------------------------- the verdicts


def test_targets_that_match_their_names_give_no_verdict() -> None:
    """The targets are suffixes, one for each part of the model."""
    assert codes(qwen("q_proj", vision=["qkv"]), "q_proj,qkv") == []


@pytest.mark.parametrize("regex", [r".*\.(q_proj|fc9)", r".*\.(?:fc9|q_proj)$", r".*q_proj|.*fc9"])
def test_a_name_in_a_regular_expression_that_matches_nothing_is_a_verdict(regex: str) -> None:
    """The name is judged although the whole expression matches: in a list it would be a verdict."""
    assert codes(qwen(regex), regex) == [(Code.UNMATCHED, ("fc9",))]


@pytest.mark.parametrize(
    ("regex", "names"),
    [
        (r".*\.(q_proj|v_proj)", ("q_proj", "v_proj")),
        (r".*\.(?:q_proj|v_proj)$", ("q_proj", "v_proj")),
        (r"(?!.*\bvisual\b).*\.(q_proj)", ("q_proj",)),
        (r".*q_proj|.*v_proj", ("q_proj", "v_proj")),
        (r".*proj", ("proj",)),
        (r".*(q|k|v)_proj", ()),
        (r".*\.layers\.[01]\..*q_proj", ()),
        (r".*", ()),
    ],
)
def test_the_names_an_expression_ends_in_are_read_where_spelled_out(regex: str, names: tuple[str, ...]) -> None:
    """Nothing is concluded from other expressions."""
    assert last_names(regex) == names


def test_an_expression_may_name_two_parts_of_a_model() -> None:
    """Only the vision encoder has `qkv`, so it was requested there and not in the language model."""
    regex = r".*\.(q_proj|qkv)"
    assert codes(qwen(regex, vision=[regex]), regex) == []


def test_an_expression_that_reaches_another_part_unasked_is_a_verdict() -> None:
    """`.*proj` matches the ends of names in the language model and in the vision encoder."""
    weights = [linear("model.visual.blocks.[0-31].attn.proj", ".*proj", area=Area.VISION), *qwen(".*proj").weights]
    assert codes(table(*weights), ".*proj") == [(Code.ELSEWHERE, (".*proj",))]


def test_a_projection_held_by_another_name_is_a_verdict() -> None:
    """Phi-3 fuses the projection into `qkv_proj`."""
    phi = table(linear("model.layers.[0-31].qkv_proj"), linear("model.layers.[0-31].o_proj", "o_proj"))
    assert codes(phi, "q_proj,k_proj,o_proj") == [(Code.UNREACHED, ("q_proj", "k_proj"))]


def test_experts_in_one_tensor_are_neither_reached_nor_quantized() -> None:
    """There are two verdicts: one about LoRA, the other about memory."""
    experts = table(linear("m.q_proj", "q_proj"), parameter("m.mlp.experts.down_proj", 8, 64, 128))
    assert codes(experts, "q_proj,down_proj") == [(Code.UNREACHED, ("down_proj",)), (Code.UNQUANTIZED, ())]


@pytest.mark.parametrize("shape", [(1, 1, 1024), (1, 1025, 1024), (577, 1024)])
def test_positions_are_no_experts(shape: tuple[int, ...]) -> None:
    """A class token and positions have a batch dimension."""
    assert codes(table(linear("m.q_proj", "q_proj"), parameter("m.embeddings.positions", *shape)), "q_proj") == []


# ------------------------------------------------------------------------------------------------------- the trainer


def test_a_finding_counts_its_weights() -> None:
    """The count includes all layers of a path, unpacked."""
    assert TargetFinding(Code.UNREACHED, ("q_proj",), (linear("m.q_proj"),)).elements == 28 * 64 * 64


def test_a_module_that_only_some_layers_adapt_is_a_verdict() -> None:
    """Layers 0 to 27 have an adapter, and the same module of 4 others has none."""
    some = linear("model.layers.[0-27].self_attn.q_proj", r".*\.[0-2]?\d\..*q_proj")
    rest = dataclasses.replace(linear("model.layers.[28-31].self_attn.q_proj"), count=4)
    [found] = findings(table(some, rest), lora(some.patterns[0]), Quantization.NF4)
    assert (found.code, found.weights, found.reached, found.of) == (Code.PARTIAL, (rest,), 28, 32)


def test_layers_that_the_configuration_leaves_out_are_no_verdict() -> None:
    """`layers_to_transform` says so."""
    layers = (linear("model.layers.[0-1].q_proj", "q_proj"), linear("model.layers.[2-3].q_proj"))
    asked = Lora({"target_modules": ["q_proj"], "layers_to_transform": [0, 1]}, "file")
    assert findings(table(*layers), asked, Quantization.NF4) == ()


def test_a_refused_configuration_is_the_only_verdict_about_targets() -> None:
    """Nothing was adapted, so nothing follows from the weights."""
    refused = dataclasses.replace(table(linear("m.q_proj")), refusal=Refusal("ValueError", "no such module"))
    [found] = findings(refused, lora("q_proj,fc9"), Quantization.NF4)
    assert (found.code, found.patterns, [w.path for w in found.weights]) == (
        Code.REFUSED,
        ("q_proj", "fc9"),
        ["m.q_proj"],
    )


def test_adapters_of_which_none_trains_are_a_verdict() -> None:
    """The configuration has `inference_mode`."""
    still = linear("m.q_proj", "q_proj")
    assert still.adapter is not None
    still = dataclasses.replace(still, adapter=dataclasses.replace(still.adapter, trainable=0))
    assert codes(table(still), "q_proj") == [(Code.FROZEN, ())]
    assert codes(table(still, linear("m.k_proj", "k_proj")), "q_proj,k_proj") == []


def test_all_linear_names_every_matrix_of_a_layer() -> None:
    """Experts in one tensor are no linear layers. Positions are no matrices."""
    experts = parameter("model.layers.[0-27].mlp.experts.down_proj", 8, 64, 128)
    found = codes(table(linear("model.layers.[0-27].q_proj", "all-linear"), experts), "all-linear")
    assert found == [(Code.UNREACHED, ("all-linear",)), (Code.UNQUANTIZED, ())]
    assert codes(table(linear("m.q_proj", "all-linear"), parameter("m.positions", 577, 64)), "all-linear") == []


def test_without_quantization_no_tensor_must_be_quantized() -> None:
    """Experts in one tensor are as they were asked for."""
    experts = table(linear("m.q_proj", "q_proj"), parameter("m.mlp.experts.down_proj", 8, 64, 128))
    assert findings(experts, lora("q_proj"), Quantization.NONE) == ()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("q_proj", {"q_proj"}),
        (r".*\.(q_proj|fc9)", {"q_proj"}),
        # `\bw` is a boundary and a w: the letters of an escape are no name.
        (r".*\bw1", {"w1"}),
        ("xq_proj", set()),
    ],
)
def test_a_pattern_names_whole_words(pattern: str, names: set[str]) -> None:
    """A part of a word is another name."""
    assert named_by(pattern) == names
