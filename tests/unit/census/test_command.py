"""The command `compat census`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from census_builders import qwen, taken
from finetune_compat.census import command
from finetune_compat.census.command import CensusRequest
from finetune_compat.census.families import families
from finetune_compat.census.lora import ALPHA, RANK, TARGETS
from finetune_compat.contract.census import LoadDtype, Quantization
from finetune_compat.contract.errors import CompatError, ExitCode, UnknownName
from finetune_compat.stacks.matrix import read_matrix
from packaging.version import Version

ASKED = CensusRequest("qwen2-vl-7b", "trl0.22", None, Quantization.NF4, LoadDtype.BF16, None, None, None, None, None)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every stack has the table of Qwen2-VL, with a target that matches nothing before TRL 1. The stacks in order."""
    asked: list[str] = []

    def take(_: Any, stack: str, *_rest: Any) -> Any:
        asked.append(stack)
        return taken(qwen("q_proj"), "q_proj" if stack.startswith("trl1") else "q_proj,fc9", stack)

    monkeypatch.setattr(command, "stack_python", lambda _, name: name)
    monkeypatch.setattr(command, "take", take)
    return asked


def test_the_default_stack_has_the_newest_trl() -> None:
    """Stacks of other packages pin another package."""
    matrix = read_matrix()
    newest = matrix.stack(command.newest_stack(matrix))
    assert newest.package == "trl"
    assert Version(newest.pin) == max(Version(stack.pin) for stack in matrix.stacks if stack.package == "trl")


def test_options_that_are_not_given_have_their_defaults() -> None:
    """A rank of 0 is given, and refused."""
    lora = command.lora_of(ASKED)
    assert (lora.options["r"], lora.options["lora_alpha"], lora.patterns) == (RANK, ALPHA, TARGETS)
    with pytest.raises(CompatError, match="r: must be 1 or more, not 0"):
        command.lora_of(dataclasses.replace(ASKED, r=0))


def test_a_file_holds_the_whole_configuration(tmp_path: Path) -> None:
    """Every other option beside it is named."""
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}), encoding="utf-8")
    asked = dataclasses.replace(ASKED, adapter_config=file)
    assert command.lora_of(asked).options == {"r": 2, "target_modules": ["q_proj"]}
    with pytest.raises(CompatError, match="--lora and --alpha, --target-parameters cannot be combined"):
        command.lora_of(dataclasses.replace(asked, alpha=1, target_parameters="x"))


@pytest.mark.parametrize("as_json", [True, False])
def test_one_stack_is_a_census(counted: list[str], capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """A finding is unhealthy."""
    assert command.run(ASKED, as_json=as_json, tree=False) is ExitCode.UNHEALTHY
    out = capsys.readouterr().out
    assert counted == ["trl0.22"]
    assert json.loads(out)["verdicts"][0]["code"] == "T102" if as_json else "T102 fc9: matches nothing." in out


@pytest.mark.parametrize("as_json", [True, False])
def test_two_stacks_are_a_comparison_and_the_second_decides(
    counted: list[str], capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """What the second no longer has is no finding of it."""
    asked = dataclasses.replace(ASKED, other_stack="trl1.16")
    assert command.run(asked, as_json=as_json, tree=False) is ExitCode.HEALTHY
    out = capsys.readouterr().out
    assert counted == ["trl0.22", "trl1.16"]
    assert "gone_findings" in json.loads(out)["changes"] if as_json else "no longer: T102 fc9" in out


def test_both_names_are_looked_up_before_anything_is_built(counted: list[str]) -> None:
    """An environment takes minutes."""
    with pytest.raises(UnknownName):
        command.run(dataclasses.replace(ASKED, other_stack="nope"), as_json=False, tree=False)
    assert counted == []


def test_the_list_has_every_family(capsys: pytest.CaptureFixture[str]) -> None:
    """By name."""
    command.print_list()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [f.name for f in families()]
