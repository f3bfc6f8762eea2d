"""Watched scripts with several adapters: the adapter that is active when the trainer gets the model must survive."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

SCRIPT = str(Path(__file__).parent / "adapters.py")

TRL, PEFT = Version(version("trl")), Version(version("peft"))

LORA = 2 * (8 * (64 + 64) + 8 * (64 + 32))
"""r * (in + out) over q and v, in two layers."""

SMALL = 2 * 4 * (64 + 64)

SECOND = """\
first = build


def build():
    model = first()
    model.add_adapter("task", LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    model.set_adapter("task")
    return model


"""


def failing(seen: Any) -> list[str]:
    """Codes of the checks that fail."""
    (verdict,) = seen.verdicts
    return [one["code"] for one in verdict["opinions"] if one["result"] == "fail"]


def adapters(seen: Any, stage: str) -> int:
    """All adapter parameters at a stage, trainable or not."""
    return [
        int(taken["by_area"]["adapter"]["total"]) for taken in seen.run["seen"]["stages"] if taken["name"] == stage
    ][-1]


@pytest.mark.skipif(Version("1.9") > TRL, reason="earlier releases add a `ref` adapter in some of these trainers only")
@pytest.mark.parametrize("way", ["dpo", "kto", "grpo"])
def test_a_reference_that_the_trainer_adds_is_no_replacement(watch: Any, model: Path, way: str) -> None:
    """The trainer doubles the adapter parameters, freezes the copy, and trains the given adapter."""
    seen = watch(SCRIPT, str(model), way)
    assert (adapters(seen, "peft"), adapters(seen, "trainer")) == (LORA, 2 * LORA)
    assert (seen.code, failing(seen)) == (0, [])
    assert seen.run["seen"]["freezes"] == []
    training = seen.run["seen"]["training"]
    assert training["optimizer"]["parameters"] == LORA
    assert training["classes"]["lora_A"]["tensors"] == 4


@pytest.mark.parametrize(("way", "trained"), [("add", SMALL), ("add-smaller", SMALL), ("load", LORA), ("fill", LORA)])
def test_what_the_script_does_to_its_adapters_is_no_fault(watch: Any, model: Path, way: str, trained: int) -> None:
    """Before the trainer, it adds or loads an adapter and activates it, or changes the values of the active one."""
    seen = watch(SCRIPT, str(model), way)
    assert (seen.code, failing(seen)) == (0, [])
    assert seen.run["handed"]["active"]["trainable"] == trained
    assert seen.run["seen"]["training"]["optimizer"]["parameters"] == trained


def test_a_second_trainer_is_given_what_the_first_has_trained(watch: Any, model: Path) -> None:
    seen = watch(SCRIPT, str(model), "again")
    assert (seen.code, [verdict["outcome"] for verdict in seen.verdicts]) == (0, ["pass", "pass"])


def test_a_second_adapter_that_freezes_the_first_is_one_fault(watch: Any, model: Path) -> None:
    """In PEFT 0.18 to 0.20 the adapter was trainable, and the call that loads another one froze it."""
    seen = watch(SCRIPT, str(model), "reference")
    if not Version("0.18") <= PEFT < Version("0.21"):
        assert (seen.code, failing(seen)) == (0, [])
        return
    assert (seen.code, failing(seen)) == (1, ["C104"])
    (freeze,) = seen.run["seen"]["freezes"]
    assert (freeze["parameters"], freeze["frames"][0]["file"]) == (LORA, "tests/pipelines/adapters.py")
    assert freeze["frames"][1]["function"] == "load_adapter"


def test_three_calls_whose_model_has_a_second_adapter(watch: Any, model: Path, tmp_path: Path) -> None:
    """The adapter that `build` leaves active trains; the first one is larger and stays."""
    text = (Path(__file__).parents[2] / "docs" / "your-script.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "flow.py").write_text(code.replace("def train(", f"{SECOND}def train("), encoding="utf-8")
    seen = watch("flow.py", str(model))
    assert (seen.code, failing(seen)) == (0, [])
    assert seen.trainable("trainer") == SMALL


def test_an_adapter_that_the_trainer_replaces_is_a_fault(watch: Any, model: Path) -> None:
    seen = watch(SCRIPT, str(model), "replace")
    assert (seen.code, failing(seen)) == (1, ["A201"])


def test_a_trainer_that_activates_another_adapter_is_a_fault(watch: Any, model: Path) -> None:
    """The given adapter is unchanged, and another one trains instead."""
    seen = watch(SCRIPT, str(model), "switch")
    assert (seen.code, failing(seen)) == (1, ["A201"])
    assert "'own' instead of 'default'" in seen.verdicts[0]["reason"]


@pytest.mark.skipif(not Version("0.22") <= TRL < Version("0.27"), reason="other releases keep the adapter, or refuse")
def test_a_peft_config_that_replaces_the_adapter_is_a_fault(watch: Any, model: Path) -> None:
    """The flow sft-peft-model-and-config does this too."""
    seen = watch(SCRIPT, str(model), "config")
    assert (seen.code, failing(seen)) == (1, ["A201"])
