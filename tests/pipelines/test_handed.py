"""Scripts that were once answered wrongly, with the right answer, on the stacks that have what they are about."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet

SCRIPTS = Path(__file__).parents[1] / "exam" / "handed"


@dataclass(frozen=True)
class Handed:
    """One script, the releases it is about, and the right answer."""

    script: str
    releases: tuple[tuple[str, str], ...]
    """Distribution and version specifier; all must match."""
    code: int
    """Exit code: 0 healthy, 1 unhealthy, 3 could not tell."""
    failing: tuple[str, ...] = ()
    """Codes of all failing checks."""
    words: tuple[str, ...] = ()
    """Parts of the reasons."""
    arguments: tuple[str, ...] = ()


NEW = (("trl", ">=1.16"),)

HANDED = (
    Handed("h03_frozen_half", NEW, 0),
    Handed("h06_one_step", NEW, 0),
    Handed("h08_lorafa", NEW, 0),
    Handed("h11_second_adapter", NEW, 0),
    Handed("k_dpo", NEW, 0, arguments=("4", "1", "full", "model")),
    Handed(
        "k_dpo",
        (("transformers", ">=5.2.0,<5.5.4"),),
        1,
        words=("accumulation-divided-twice", "4 accumulated batches"),
        arguments=("1", "4", "full", "config"),
    ),
    Handed(
        "k_second_frozen",
        (("peft", ">=0.18,<0.21"), ("trl", ">=1.9")),
        1,
        ("C104",),
        ("k_second_frozen.py:", "-> peft/"),
        ("load", "gc"),
    ),
    Handed("r07_native_adapter_resume", NEW, 1, ("F001",), ("ValueError at training", "checkpoint")),
    Handed(
        "r08b_pissa_save_freezes_gc",
        (("peft", ">=0.18.1,<0.21"), ("trl", ">=1.6")),
        1,
        ("C105",),
        ("from step 4 on", "r08b_pissa_save_freezes_gc.py:", "-> peft/"),
    ),
    Handed("r11b_grpo_constant_reward", NEW, 1, ("G409",), ("the reward is 0 for every completion",)),
    Handed("r12_sft_lora_eval_loss", (("trl", "~=0.19.0"),), 1, ("E801",), ("LoraConfig has no task_type",)),
    Handed(
        "r15_upgrade_0_16_to_1_9",
        (("trl", ">=1.9"),),
        1,
        ("F001",),
        ("max_seq_length (closest name: max_length)", "warmup_ratio"),
    ),
    Handed("r19b_diverges", NEW, 1, ("E808", "E811"), ("eval loss diverges",)),
)


def applies(one: Handed) -> bool:
    """Whether this stack has the releases that the script is about."""
    return all(version(name) in SpecifierSet(window) for name, window in one.releases)


@pytest.mark.parametrize(
    "one", [one for one in HANDED if applies(one)], ids=lambda one: " ".join((one.script, *one.arguments))
)
def test_it_is_answered_rightly(watch: Any, tmp_path: Path, one: Handed) -> None:
    """The exit code, the failing checks and the cause are those that a plain run of the script shows."""
    for path in SCRIPTS.glob("*.py"):
        shutil.copy(path, tmp_path)
    seen = watch(f"{one.script}.py", *one.arguments)
    failing = {item["code"] for verdict in seen.verdicts for item in verdict["opinions"] if item["result"] == "fail"}
    reasons = " ".join(verdict["reason"] for verdict in seen.verdicts)
    assert (seen.code, failing) == (one.code, set(one.failing)), reasons
    assert [word for word in one.words if word not in reasons] == []
