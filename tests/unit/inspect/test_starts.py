"""The values before the first step, by PEFT method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import write
from finetune_compat.inspect.saved import read_adapter
from finetune_compat.inspect.starts import initial_values, with_initial_value


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({"peft_type": "IA3", "init_ia3_weights": True}, {"ia3_l": 1}),
        ({"peft_type": "IA3", "init_ia3_weights": False}, {}),
        # An option that an older PEFT did not save has its default.
        ({"peft_type": "IA3"}, {"ia3_l": 1}),
        ({"peft_type": "LOKR", "init_weights": True}, {"lokr_w1": 0, "lokr_w1_a": 0}),
        ({"peft_type": "LOKR", "init_weights": "lycoris"}, {"lokr_w2": 0, "lokr_w2_b": 0}),
        ({"peft_type": "PSOFT", "init_weights": True, "psoft_orth": False}, {}),
        # Its tensors are random, and LoRA has its own rule.
        ({"peft_type": "HRA", "init_weights": True}, {}),
        ({"peft_type": "LORA"}, {}),
    ],
)
def test_the_method_and_its_options_fix_the_start(config: Mapping[str, Any], values: Mapping[str, float]) -> None:
    """Where an option changes the start, nothing follows from the file."""
    assert initial_values(config) == values


def test_a_tensor_is_found_by_whole_parts_of_its_name(tmp_path: Path) -> None:
    """`boft_s` is no part of `boft_scale`; a constant tensor of another value has moved."""
    arrays = {
        "m.boft_R": np.zeros((2, 3), np.float32),
        "m.boft_s": np.full((3, 1), 2, np.float32),
        "m.boft_scale": np.ones((3, 1), np.float32),
    }
    tensors = read_adapter(write(tmp_path / "a", arrays, peft_type="BOFT")).weights.tensors
    assert with_initial_value(tensors, {"boft_R": 0, "boft_s": 1}) == {"m.boft_R": True, "m.boft_s": False}
