"""`compat census` on the host: refused input, verdicts, and differences between two stacks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from finetune_compat.census import lora as loras
from finetune_compat.census.compare import compared
from finetune_compat.census.families import families, find
from finetune_compat.census.lora import Lora
from finetune_compat.census.taken import Taken, trainers
from finetune_compat.census.terminal import comparison_as_json, print_census, print_comparison
from finetune_compat.census.verdicts import Code, TargetFinding, findings, last_names
from finetune_compat.census.wording import advice, listed, sentence
from finetune_compat.checks.ledger import load_ledger
from finetune_compat.contract.census import (
    Adapter,
    AdapterKind,
    Effective,
    LoadDtype,
    Quantization,
    StageCount,
    StageTable,
    Weight,
    WeightKind,
)
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import Area, Stage

V0_12 = {"trl": "0.12.2", "transformers": "4.46.3", "peft": "0.16.0", "bitsandbytes": "0.47.0", "torch": "2.13.0"}
V0_22 = {"trl": "0.22.2", "transformers": "4.56.0", "peft": "0.17.1", "bitsandbytes": "0.47.0", "torch": "2.13.0"}

LORA = Adapter(AdapterKind.LORA, (8, 64), (64, 8), 1024)


def linear(path: str, *patterns: str, area: Area = Area.LANGUAGE) -> Weight:
    """A linear layer of 28 layers or of 32 blocks, with an adapter if it is matched."""
    count = 32 if area is Area.VISION else 28
    return Weight(path, WeightKind.LINEAR, area, (64, 64), count, True, patterns, LORA if patterns else None)


def parameter(path: str, *shape: int) -> Weight:
    """A parameter outside linear layers."""
    return Weight(path, WeightKind.PARAMETER, Area.LANGUAGE, shape, 28, False, (), None)


def qwen(*patterns: str, vision: Sequence[str] = ()) -> StageTable:
    """Qwen2-VL's attention; the given patterns match q_proj in the language model or qkv in the vision encoder."""
    layers = "model.language_model.layers.[0-27].self_attn"
    return table(
        linear(f"{layers}.q_proj", *patterns),
        linear(f"{layers}.k_proj"),
        linear("model.visual.blocks.[0-31].attn.qkv", *vision, area=Area.VISION),
    )


def table(*weights: Weight) -> StageTable:
    """A stage table of these weights."""
    counts = [StageCount(stage, 0, 100, 0, 1_000_000, {}, {}, {}) for stage in (Stage.LOAD, Stage.PREPARE)]
    peft = StageCount(Stage.PEFT, 1024, 1124, 1024, 1_001_024, {}, {}, {})
    return StageTable("Model", V0_22, (*counts, peft), weights, Effective((), ()), None, 0.1)


def lora(targets: str) -> Lora:
    """A LoRA configuration with these targets, as the command reads them."""
    return loras.from_options(8, 16, targets, "")


def taken(found: StageTable, targets: str, stack: str = "trl0.22-py311") -> Taken:
    """The census of Qwen2-VL."""
    asked = lora(targets)
    return Taken(
        find("qwen2-vl-7b"),
        stack,
        asked,
        Quantization.NF4,
        LoadDtype.BF16,
        found,
        (),
        findings(found, asked, Quantization.NF4),
    )


def codes(found: StageTable, targets: str) -> list[tuple[Code, tuple[str, ...]]]:
    """Return the verdicts with their patterns."""
    return [(finding.code, finding.patterns) for finding in findings(found, lora(targets), Quantization.NF4)]


# ---------------------------------------------------------------------------------------------------------- the border


def refused(asked: str) -> str:
    """Return the message about a refused subject, which is always bad input."""
    with pytest.raises(CompatError) as raised:
        find(asked)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    return str(raised.value)


def test_every_family_is_found_by_its_name() -> None:
    """Names are case-insensitive; no config says that its model is stored quantized."""
    for family in families():
        assert find(family.name.upper()).family is family
        assert "quantization_config" not in family.config
    assert {"qwen2-vl-7b", "qwen2.5-vl-7b", "phi-3-mini", "mixtral-8x7b"} <= {family.name for family in families()}


def test_a_name_that_is_no_family_is_answered_with_one_that_is() -> None:
    """The message lists all families and the most similar one."""
    said = refused("qwen2vl")
    assert said.startswith("there is no family 'qwen2vl'\nDid you mean qwen2-vl-7b? The families are: gemma-3-4b, ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": ', "not JSON: Expecting value"),
        ("[]", "not a JSON object but list"),
        ("{}", "not a model's config: it has no model_type"),
        ('{"peft_type": "LORA"}', "It is the config of an adapter."),
        ('{"model_type": "a", "quantization_config": {"quant_method": "awq"}}', "the model is stored quantized (awq)"),
        ('{"model_type": "a", "quantization_config": "awq"}', "the model is stored quantized (unknown method)"),
    ],
)
def test_a_config_that_cannot_be_counted_is_one_message(tmp_path: Path, text: str, said: str) -> None:
    """The message names the file."""
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    for asked in (tmp_path, tmp_path / "config.json"):
        message = refused(str(asked))
        assert message.startswith(f"{tmp_path}/config.json: ")
        assert said in message


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("fp8", "stored in fp8; counted as the unquantized model"),
        ("mxfp4", "stored in mxfp4; counted as the unquantized model"),
        ("bitsandbytes", "stored by bitsandbytes; counted as --quantization says"),
    ],
)
def test_a_config_of_a_model_that_is_stored_quantized_has_totals(tmp_path: Path, method: str, told: str) -> None:
    """The model is built from the config of the unquantized one."""
    stored = {"model_type": "a", "vocab_size": 8, "quantization_config": {"quant_method": method}}
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    subject = find(str(tmp_path))
    assert subject.config == {"model_type": "a", "vocab_size": 8}
    assert subject.title == f"{tmp_path.name} ({told})"


def test_a_config_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    """An argument that looks like a path is no family name."""
    assert refused(f"{tmp_path}/config.json").startswith(f"{tmp_path}/config.json: cannot be read: No such file")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"r": 0}, "r: must be 1 or more, not 0"),
        ({"r": "8"}, "r: cannot be '8'"),
        ({"r": True}, "r: cannot be True"),
        ({"target_modules": [1]}, "target_modules: cannot be [1]"),
        ({"target_modules": []}, "names no target"),
        ({"target_modules": "(q_proj"}, "'(q_proj' is not a regular expression"),
        ({"target_modules": ["q_proj"], "rank_pattern": {"(": 4}}, "rank_pattern: '(' is not a regular expression"),
        ({"target_modules": ["q_proj"], "rank_pattern": "x"}, "rank_pattern: cannot be 'x'"),
        ({"target_modules": ["q_proj"], "layer_replication": [[0, 4], [2, 5]]}, "layer_replication cannot be counted"),
        ({"peft_type": "IA3"}, "its peft_type is 'IA3', not 'LORA'"),
    ],
)
def test_an_invalid_lora_configuration_is_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    """The file is refused before a stack is asked, because a library's message would differ from the file's error."""
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({"peft_type": "LORA", **options}), encoding="utf-8")
    with pytest.raises(CompatError) as raised:
        loras.from_file(path)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value).startswith(f"{path}: {said}")


# -------------------------------------------------------------------------------------------------------- the verdicts


def test_without_targets_those_of_peft_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """`target_modules: null` leaves the choice to PEFT's table of model types."""
    chosen = dataclasses.replace(qwen("q_proj"), effective=Effective(("q_proj",), ()))
    asked = Lora({"r": 8, "target_modules": None}, "adapter_config.json")
    print_census(dataclasses.replace(taken(chosen, "q_proj"), lora=asked), tree=False)
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("q_proj"))
    assert row.split() == ["q_proj", "28", "language", "model.language_model.layers.[0-27].self_attn.q_proj"]
    assert "target_modules is not set: these are PEFT's own targets for models of this type" in lines
    assert not any(line.startswith("k_proj") for line in lines)


def test_targets_that_match_their_names_give_no_verdict() -> None:
    """The targets are suffixes, one for each part of the model."""
    assert codes(qwen("q_proj", vision=["qkv"]), "q_proj,qkv") == []


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


# ------------------------------------------------------------------------------------------------------- two stacks


def test_a_verdict_of_both_stacks_is_reported_without_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is the reason why the command exits with 1."""
    before, after = (taken(qwen("q_proj"), "q_proj,fc9", stack) for stack in ("a", "b"))
    changes = compared(before, after)
    assert changes.same
    assert after.exit_code is ExitCode.UNHEALTHY
    print_comparison(before, after, changes, tree=False)
    assert "Nothing changes.\n  on both: T102 fc9: matches nothing." in capsys.readouterr().out
    assert json.loads(comparison_as_json(before, after, changes))["changes"]["lasting_findings"][0]["code"] == "T102"


def test_a_moved_part_is_one_move_and_no_weight_is_gone() -> None:
    """`model` became `model.language_model`, and `visual` became `model.visual`."""
    old = [w.path.replace("model.language_model", "model").replace("model.visual", "visual") for w in qwen().weights]
    weights = [dataclasses.replace(w, path=path) for w, path in zip(qwen("q_proj").weights, old, strict=True)]
    changes = compared(taken(table(*weights), "q_proj"), taken(qwen("q_proj"), "q_proj"))
    assert [(move.before, move.after) for move in changes.moves] == [
        ("model", "model.language_model"),
        ("visual", "model.visual"),
    ]
    assert (changes.gone, changes.new, changes.reaches) == ((), (), ())


def test_new_and_resolved_verdicts_are_distinguished() -> None:
    """Verdicts are compared by code and patterns."""
    healthy, ill = taken(qwen("q_proj"), "q_proj"), taken(qwen("q_proj"), "q_proj,fc9")
    assert [f.code for f in compared(healthy, ill).new_findings] == [Code.UNMATCHED]
    assert [f.code for f in compared(ill, healthy).gone_findings] == [Code.UNMATCHED]
    assert compared(ill, healthy).lasting_findings == ()


# ------------------------------------------------------------------------------------------------------- the trainer


def test_what_a_trainer_leaves_trainable_follows_the_ledger() -> None:
    """TRL 0.22 freezes the adapters of a PeftModel only."""
    base, wrapped = trainers(qwen("q_proj"), Quantization.NF4, V0_22, load_ledger())
    assert (base.trainable, base.issue, base.unmeasured) == (1024, None, None)
    assert (wrapped.trainable, wrapped.issue) == (0, "trl#3926")


def test_what_no_cell_reached_is_unmeasured() -> None:
    """No quantized model of Transformers 4.46 loads on a CPU, so no trainer of TRL 0.12 was measured with one."""
    why = "not measured: Transformers before 4.53 does not load quantized weights on a CPU"
    for trainer in trainers(qwen("q_proj"), Quantization.NF4, V0_12, load_ledger()):
        assert listed(trainer) == why
    for trainer in trainers(qwen("q_proj"), Quantization.NONE, V0_12, load_ledger()):
        assert listed(trainer) == ""


def test_a_finding_counts_its_weights() -> None:
    """The count includes all layers of a path, unpacked."""
    assert TargetFinding(Code.UNREACHED, ("q_proj",), (linear("m.q_proj"),)).elements == 28 * 64 * 64
