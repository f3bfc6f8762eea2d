"""A user's LoRA configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetune_compat.census import lora as loras
from finetune_compat.contract.errors import CompatError, ExitCode


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


@pytest.mark.parametrize(
    ("targets", "parameters", "patterns", "regex"),
    [
        ("q_proj, v_proj", "", ("q_proj", "v_proj"), None),
        ("all-linear", "", ("all-linear",), None),
        (r".*\.(q|v)_proj", "", (r".*\.(q|v)_proj",), r".*\.(q|v)_proj"),
        ("q_proj", "experts.down_proj,", ("q_proj", "experts.down_proj"), None),
    ],
)
def test_targets_are_a_list_of_suffixes_or_one_expression(
    targets: str, parameters: str, patterns: tuple[str, ...], regex: str | None
) -> None:
    """Text with a sign that no module name has is an expression, as in PEFT."""
    asked = loras.from_options(8, 16, targets, parameters)
    assert (asked.patterns, asked.regex) == (patterns, regex)
    assert (asked.options["r"], asked.options["lora_alpha"]) == (8, 16)


def test_a_saved_configuration_is_read_without_what_changes_no_module(tmp_path: Path) -> None:
    """A folder has the file by its name in PEFT. The base model's name and the task adapt nothing."""
    saved = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM", "revision": None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(saved), encoding="utf-8")
    for path in (tmp_path, tmp_path / "adapter_config.json"):
        found = loras.from_file(path)
        assert (found.options, found.source) == (
            {"r": 8, "target_modules": ["q_proj"]},
            str(tmp_path / "adapter_config.json"),
        )
