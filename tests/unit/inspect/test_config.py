"""Validation of `adapter_config.json`: accepted values, ignored options, and a list of all errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from adapters import CONFIG
from finetune_compat.contract.errors import AdapterError, ExitCode
from finetune_compat.inspect.config import AdapterConfig, read_config


def read(tmp_path: Path, text: str) -> AdapterConfig:
    """Parse `text`."""
    (tmp_path / "adapter_config.json").write_text(text)
    return read_config(tmp_path / "adapter_config.json")[0]


def refused(tmp_path: Path, text: str) -> str:
    """Return the message without the path in front of it."""
    with pytest.raises(AdapterError) as caught:
        read(tmp_path, text)
    assert caught.value.exit_code is ExitCode.BAD_INPUT
    return str(caught.value).removeprefix(f"{tmp_path / 'adapter_config.json'}: ")


AFTER = (
    "\nThe file is damaged or was edited by hand. PEFT refuses it too, or loads something else."
    "\nTake the file from the save it belongs to, or correct it."
)


def test_unknown_options_are_accepted_and_kept(tmp_path: Path) -> None:
    """An option of a later release is no error; it stays in the raw configuration."""
    (tmp_path / "adapter_config.json").write_text(json.dumps({**CONFIG, "of_another_release": {"a": [1]}}))
    config, raw = read_config(tmp_path / "adapter_config.json")
    assert (config.r, config.lora_alpha, config.target_modules) == (2, 4, ("q_proj", "v_proj"))
    assert raw["of_another_release"] == {"a": [1]}


def test_a_missing_key_has_pefts_default(tmp_path: Path) -> None:
    """The defaults are those of PEFT's LoraConfig."""
    config = read(tmp_path, '{"peft_type": "LORA"}')
    assert (config.r, config.lora_alpha, config.bias, config.inference_mode) == (8, 8, "none", False)


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({}, "LoRA"),
        ({"use_rslora": True}, "rsLoRA"),
        ({"use_dora": True}, "DoRA"),
        ({"use_dora": True, "use_rslora": True}, "DoRA (rsLoRA)"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_a_method_is_called_what_people_call_it(tmp_path: Path, given: dict[str, Any], method: str) -> None:
    """The peft_type LORA covers three methods."""
    assert read(tmp_path, json.dumps({**CONFIG, **given})).method == method


def test_keys_of_another_method_are_not_read_as_those_of_lora(tmp_path: Path) -> None:
    """AdaLoRA's rank_pattern holds masks, and its r has another meaning."""
    text = json.dumps({"peft_type": "ADALORA", "rank_pattern": {"q.lora_E": [True, False]}, "r": None})
    config = read(tmp_path, text)
    assert (config.is_lora, config.rank_pattern) == (False, None)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"peft_type": 3}, "peft_type: must be text, not 3"),
        ({"peft_version": 0.18}, "peft_version: must be text, not 0.18"),
        ({"task_type": []}, "task_type: must be text, not []"),
        ({"base_model_name_or_path": {}}, "base_model_name_or_path: must be text, not {}"),
        ({"inference_mode": "true"}, 'inference_mode: must be true or false, not "true"'),
        ({"r": "8"}, 'r: must be a whole number above 0, not "8"'),
        ({"r": 0}, "r: must be a whole number above 0, not 0"),
        ({"r": 8.0}, "r: must be a whole number above 0, not 8.0"),
        ({"lora_alpha": None}, "lora_alpha: must be a number, not null"),
        ({"use_rslora": 1}, "use_rslora: must be true or false, not 1"),
        ({"use_dora": None}, "use_dora: must be true or false, not null"),
        ({"ensure_weight_tying": 1}, "ensure_weight_tying: must be true or false, not 1"),
        ({"bias": False}, "bias: must be text, not false"),
        (
            {"rank_pattern": {"q": -1}},
            'rank_pattern: must be whole numbers above 0 by regular expression, not {"q": -1}',
        ),
        ({"rank_pattern": {"(": 4}}, 'rank_pattern: must be whole numbers above 0 by regular expression, not {"(": 4}'),
        ({"alpha_pattern": {"q": "4"}}, 'alpha_pattern: must be numbers by regular expression, not {"q": "4"}'),
        ({"target_modules": "*q"}, 'target_modules: must be a list of names or a regular expression, not "*q"'),
        ({"target_modules": [1]}, "target_modules: must be a list of names or a regular expression, not [1]"),
        ({"exclude_modules": "*q"}, 'exclude_modules: must be a list of names or a regular expression, not "*q"'),
        ({"target_parameters": "a.b"}, 'target_parameters: must be a list of names, not "a.b"'),
        ({"modules_to_save": "score"}, 'modules_to_save: must be a list of names, not "score"'),
        ({"layers_to_transform": "1"}, 'layers_to_transform: must be a whole number or a list of them, not "1"'),
        ({"layers_pattern": 1}, "layers_pattern: must be a regular expression or a list of them, not 1"),
    ],
)
def test_an_invalid_value_is_named_with_its_key(tmp_path: Path, given: dict[str, Any], fault: str) -> None:
    """The message has the expected and the actual value."""
    assert refused(tmp_path, json.dumps({"peft_type": "LORA", **given})) == f"1 fault\n  {fault}{AFTER}"


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    """They are in the order of the configuration's keys."""
    assert refused(tmp_path, '{"peft_type": "LORA", "bias": 1, "r": "8"}') == (
        f'2 faults\n  r: must be a whole number above 0, not "8"\n  bias: must be text, not 1{AFTER}'
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1 (char 0)"),
        ('{"r": 8', "is not JSON: Expecting ',' delimiter: line 1 column 8 (char 7)"),
        ('{"lora_alpha": NaN}', "is not JSON: NaN is not a finite number"),
        ('{"lora_alpha": 1e999}', "is not JSON: 1e999 is not a finite number"),
        ("[]", "must hold a JSON object"),
        (f'{{"r": {"[" * 100_000}{"]" * 100_000}}}', "is nested more than 100 levels deep"),
        (f'{{"r": {"[" * 100}{"]" * 100}}}', "is nested more than 100 levels deep"),
        (f"{'[' * 99}{']' * 99}", "must hold a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    """This includes numbers that JSON lacks and Python's reader accepts."""
    assert refused(tmp_path, text) == problem + AFTER


def test_a_configuration_of_another_library_is_refused(tmp_path: Path) -> None:
    """MLX writes a file with this name."""
    assert refused(tmp_path, '{"fine_tune_type": "lora", "num_layers": 16}') == (
        "has no peft_type\n"
        "PEFT did not write this file; other libraries write one of the same name.\n"
        "Convert the adapter to PEFT's format with the library that made it."
    )


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Its bytes are not UTF-8."""
    path = tmp_path / "adapter_config.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AdapterError) as caught:
        read_config(path)
    assert str(caught.value) == (
        f"{path}: is not JSON: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte\n"
        "The file is damaged or was edited by hand. PEFT refuses it too, or loads something else.\n"
        "Take the file from the save it belongs to, or correct it."
    )
