"""The subjects of a census: families and configs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetune_compat.census.families import families, find
from finetune_compat.contract.errors import CompatError, ExitCode


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
