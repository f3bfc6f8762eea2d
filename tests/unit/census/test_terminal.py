"""A census and a comparison, in a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest
from census_builders import linear, qwen, table, taken
from finetune_compat.census.compare import compared
from finetune_compat.census.families import families
from finetune_compat.census.lora import Lora
from finetune_compat.census.terminal import as_json, comparison_as_json, print_census, print_comparison, print_families
from finetune_compat.contract.census import Effective
from finetune_compat.contract.errors import ExitCode


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


def test_a_verdict_of_both_stacks_is_reported_without_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is the reason why the command exits with 1."""
    before, after = (taken(qwen("q_proj"), "q_proj,fc9", stack) for stack in ("a", "b"))
    changes = compared(before, after)
    assert changes.same
    assert after.exit_code is ExitCode.UNHEALTHY
    print_comparison(before, after, changes, tree=False)
    assert "Nothing changes.\n  on both: T102 fc9: matches nothing." in capsys.readouterr().out
    assert json.loads(comparison_as_json(before, after, changes))["changes"]["lasting_findings"][0]["code"] == "T102"


def test_every_family_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the heads of its columns."""
    print_families(families())
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["family", "parameters", "model", "Transformers", "from"]
    assert [line.split() for line in lines] == [[f.name, f"{f.parameters:,}", f.model, f.since] for f in families()]


def test_a_tree_has_a_line_for_each_weight_with_the_shapes_of_its_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    """A chain of single modules is one line."""
    print_census(taken(qwen("q_proj"), "q_proj"), tree=True)
    out = capsys.readouterr().out
    assert "language_model.layers.[0-27].self_attn\n" in out
    assert "q_proj 64 x 64  lora_A 8 x 64, lora_B 64 x 8\n" in out
    assert "k_proj 64 x 64\n" in out
    assert "visual.blocks.[0-31].attn.qkv 64 x 64\n" in out


def test_stages_have_their_shares(capsys: pytest.CaptureFixture[str]) -> None:
    """1,024 of 1,124 stored are 91.1032 %, of 1,001,024 logical 0.1023 %."""
    print_census(taken(qwen("q_proj"), "q_proj"), tree=False)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["peft", "1,024", "1,124", "91.1032", "1,001,024", "0.1023"] in rows
    assert ["load", "0", "100", "0.0000", "1,000,000", "0.0000"] in rows


def test_json_has_the_table_the_request_and_the_verdicts() -> None:
    """Targets are counted by area."""
    here = taken(qwen("q_proj"), "q_proj,fc9")
    data = json.loads(as_json(here))
    assert (data["family"], data["stack"], data["quantization"]) == ("qwen2-vl-7b", "trl0.22-py311", "nf4")
    assert data["targets"] == {"q_proj": {"language": 28}, "fc9": {}}
    assert [(found["code"], found["patterns"], found["weights"]) for found in data["verdicts"]] == [
        ("T102", ["fc9"], [])
    ]
    assert [stage["trainable"] for stage in data["stages"]] == [0, 0, 1024]


def test_what_changed_is_named_before_the_verdicts(capsys: pytest.CaptureFixture[str]) -> None:
    """Gone weights, reaches and counts."""
    before, after = (
        taken(qwen("q_proj"), "q_proj", "a"),
        taken(table(linear("m.[0-27].k_proj", "q_proj")), "q_proj", "b"),
    )
    print_comparison(before, after, compared(before, after), tree=False)
    out = capsys.readouterr().out.partition("from a to b\n")[2]
    assert "  gone: model.visual.blocks.[0-31].attn.qkv (linear, 64 x 64, 32 of them)\n" in out
    assert "Nothing changes" not in out
