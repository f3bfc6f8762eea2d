"""A census on one stack."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from census_builders import V0_22, lora, qwen
from finetune_compat.census import taken
from finetune_compat.census.families import find
from finetune_compat.census.taken import trainers
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.census import CannotBuild, Inability, LoadDtype, Quantization, StageTable
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock


def test_what_a_trainer_leaves_trainable_follows_the_ledger() -> None:
    """TRL 0.22 freezes the adapters of a PeftModel only."""
    base, wrapped = trainers(qwen("q_proj"), Quantization.NF4, V0_22, load_ledger())
    assert (base.trainable, base.issue, base.unmeasured) == (1024, None, None)
    assert (wrapped.trainable, wrapped.issue) == (0, "trl#3926")


STACK = StackPython(
    "trl0.22-py311",
    Path("/env/bin/python"),
    Lock(Path("trl0.22-py311.txt"), "", V0_22, {"torch": "2.13.0"}),
    Environment("2.13.0", base_torch=False, reused=True),
)


def answered(monkeypatch: pytest.MonkeyPatch, answer: StageTable | Inability) -> list[Any]:
    """Let every stack give this answer; return what it is asked."""
    asked: list[Any] = []

    def ask(*request: Any) -> Any:
        asked.append(request)
        return json.loads(json.dumps(dataclasses.asdict(answer)))

    monkeypatch.setattr(taken, "ask", ask)
    return asked


def test_a_stack_is_asked_for_the_table_and_its_answer_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are alike are built once. The trainers' issues are those of the stack's lock."""
    subject, asked = find("qwen2-vl-7b"), answered(monkeypatch, qwen("q_proj"))
    found = taken.take(subject, STACK, lora("q_proj,fc9"), Quantization.NF4, LoadDtype.BF16, load_ledger())
    [(stack, _, request)] = asked
    assert (stack, request["layers_alike"], request["quantization"]) == (STACK, subject.layers_alike, Quantization.NF4)
    assert (found.stack, found.exit_code, found.parameters) == ("trl0.22-py311", ExitCode.UNHEALTHY, 1_000_000)
    assert [finding.patterns for finding in found.findings] == [("fc9",)]
    assert [trainer.issue for trainer in found.trainers] == [None, "trl#3926"]


@pytest.mark.parametrize(
    ("why", "problem"),
    [
        (CannotBuild.NO_CLASS, "trl0.22-py311: Transformers 4.40.0 has no Qwen9\n"),
        (CannotBuild.REJECTED, "trl0.22-py311: Transformers 4.40.0 rejects the config: Qwen9\n"),
    ],
)
def test_a_family_that_a_stack_cannot_build_names_the_release_that_can(
    monkeypatch: pytest.MonkeyPatch, why: CannotBuild, problem: str
) -> None:
    """The shipped families know since when Transformers reads them."""
    subject = find("qwen2-vl-7b")
    assert subject.family is not None
    answered(monkeypatch, Inability(why, "Qwen9", "4.40.0"))
    with pytest.raises(CompatError) as raised:
        taken.take(subject, STACK, lora("q_proj"), Quantization.NF4, LoadDtype.BF16, load_ledger())
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value).startswith(problem)
    assert f"from {subject.family.since} on." in str(raised.value)


def test_without_adapters_there_is_no_trainer() -> None:
    """PEFT refused."""
    whole = qwen("q_proj")
    refused = dataclasses.replace(whole, stages=whole.stages[:2])
    assert trainers(refused, Quantization.NF4, V0_22, load_ledger()) == ()
