"""A function or class of a library has one name."""

from __future__ import annotations

import pytest
from finetune_compat.audit.names import canonical


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("trl.trainer.sft_trainer.SFTTrainer", "trl.SFTTrainer"),
        ("trl.SFTTrainer", "trl.SFTTrainer"),
        ("transformers.models.auto.AutoModel.from_pretrained", "transformers.AutoModel.from_pretrained"),
        ("peft.utils.other.prepare_model_for_kbit_training", "peft.prepare_model_for_kbit_training"),
        ("trl", "trl"),
    ],
)
def test_a_name_is_that_of_the_package(name: str, short: str) -> None:
    """Wherever a script takes it from; modules are written in small letters."""
    assert canonical(name) == short
