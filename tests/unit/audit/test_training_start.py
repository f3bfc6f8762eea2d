"""A training has the state of its model at its start, and follows the code that it calls."""

from __future__ import annotations

import pytest
from audit_builders import path_of, value_of
from finetune_compat.audit.values import Table, const

IMPORTS = (
    "import peft, transformers, trl\n"
    "from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training\n"
    "from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig\n"
)
LOAD = "x = AutoModelForCausalLM.from_pretrained('m')\n"
WRAP = "x = get_peft_model(x, LoraConfig())\n"


def test_what_happens_after_the_start_does_not_count() -> None:
    """An adapter that is merged after training was trained."""
    path = path_of()
    value_of(
        IMPORTS + LOAD + WRAP + "t = trl.SFTTrainer(model=x)\nt.train()\nx.merge_adapter()\n",
        path=path,
    )
    (training,) = path.trainings
    start = training.given["at_start"]
    assert isinstance(start, Table)
    assert (const(start.items["off"]), const(start.items["adapters"])) == (None, True)


@pytest.mark.parametrize(
    ("where", "base", "trainer", "arguments"),
    [
        (
            "on_train_begin(self, args, state, control, model=None)",
            "transformers.TrainerCallback",
            "trl.SFTTrainer",
            "callbacks=[A()]",
        ),
        ("compute_loss(self, model, inputs)", "trl.SFTTrainer", "A", ""),
    ],
)
def test_a_freeze_by_code_that_training_calls_counts(where: str, base: str, trainer: str, arguments: str) -> None:
    """In a callback, and in a method of the trainer that the script replaces."""
    path = path_of()
    value_of(
        IMPORTS
        + LOAD
        + WRAP
        + f"class A({base}):\n    def {where}:\n        model.requires_grad_(False)\n"
        + f"{trainer}(model=x, {arguments}).train()\n",
        path=path,
    )
    (training,) = path.trainings
    start = training.given["at_start"]
    assert isinstance(start, Table)
    assert const(start.items["frozen"]) is not None and const(start.items["while training"]) is True
