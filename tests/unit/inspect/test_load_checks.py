"""Checks of what a stack loads of an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from adapter_stories import judged, loading
from adapters import PREFIX, Q0
from finetune_compat.inspect.loading import Mismatch


def test_a_tensor_of_no_module_is_named_itself(tmp_path: Path) -> None:
    """A prompt belongs to the whole model."""
    seen = loading(mismatched=(Mismatch("prompt_embeddings", (8, 64), (8, 128)),), fitting=0)
    assert judged(tmp_path, seen)["S404"] == (
        "Under trl1.16-py311 1 tensor has another shape in Qwen2ForCausalLM, the first [8, 64] for [8, 128] "
        "(prompt_embeddings)."
    )


LOADED_B = f"{PREFIX}{Q0}.lora_B.default.weight"


@pytest.mark.parametrize(
    ("given", "code", "sentence"),
    [
        (
            {"error": "TypeError: got an unexpected\n  keyword argument 'eva_config'"},
            "S401",
            "Under trl1.16-py311 loading fails: TypeError: got an unexpected keyword argument 'eva_config'",
        ),
        (
            {"error": "ValueError: unknown model type qwen9", "base": ""},
            "S401",
            "Under trl1.16-py311 the base cannot be built: ValueError: unknown model type qwen9",
        ),
        (
            {"missing": (LOADED_B, f"{PREFIX}score.modules_to_save.default.weight")},
            "S402",
            (
                "Under trl1.16-py311 2 parameters find no tensor: the adapter keeps its initial values there "
                "(model.layers.0.self_attn.q_proj, score)."
            ),
        ),
        (
            {"unexpected": (LOADED_B, LOADED_B.replace("layers.0", "layers.1"))},
            "S403",
            (
                "Under trl1.16-py311 2 tensors find no place in Qwen2ForCausalLM: PEFT drops "
                "(model.layers.0-1.self_attn.q_proj)."
            ),
        ),
        (
            {"mismatched": (Mismatch(LOADED_B, (6, 2), (8, 2)),)},
            "S404",
            (
                "Under trl1.16-py311 1 tensor has another shape in Qwen2ForCausalLM, the first [6, 2] for [8, 2] "
                "(model.layers.0.self_attn.q_proj)."
            ),
        ),
        (
            {"unknown_options": ("use_dora", "eva_config")},
            "S405",
            "Under trl1.16-py311 PEFT 0.21.2 does not know and ignores use_dora, eva_config.",
        ),
        (
            {"untold": "RuntimeError: Tensor.item() cannot be called on meta tensors"},
            "S406",
            (
                "Under trl1.16-py311 nothing is foretold: loading this method needs values (RuntimeError: "
                "Tensor.item() cannot be called on meta tensors)"
            ),
        ),
        ({}, None, None),
        ({"error": "TypeError: use_dora", "unknown_options": ("use_dora",)}, "S401", None),
    ],
)
def test_the_result_of_a_load_is_judged(
    tmp_path: Path, given: dict[str, Any], code: str | None, sentence: str | None
) -> None:
    """Each kind has its own check; an option that an error explains is not reported twice."""
    seen = judged(tmp_path, loading(**given))
    assert list(seen) == ([code] if code else [])
    assert sentence is None or list(seen.values()) == [sentence]


def test_a_long_error_is_cut(tmp_path: Path) -> None:
    """The beginning of the message is kept."""
    seen = judged(tmp_path, loading(error="E: " + "x" * 1000))
    assert seen["S401"] == "Under trl1.16-py311 loading fails: E: " + "x" * 297


BIAS = f"{PREFIX}{Q0}.base_layer.bias"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        # PEFT 0.9 trains no bias of lora_only: the base has all of them.
        ({"bias": "lora_only", "peft_version": "0.9.0"}, False),
        ({"bias": "lora_only", "peft_version": "0.10.0"}, True),
        ({"bias": "lora_only", "peft_version": "built here"}, True),
        ({"bias": "lora_only"}, True),
        ({"bias": "all", "peft_version": "0.9.0"}, True),
    ],
)
def test_biases_that_were_never_trained_are_not_missing(tmp_path: Path, config: dict[str, Any], told: bool) -> None:
    assert ("S402" in judged(tmp_path, loading(missing=(BIAS,)), **config)) is told


def test_other_parameters_of_an_old_adapter_are_missing(tmp_path: Path) -> None:
    seen = judged(tmp_path, loading(missing=(BIAS, LOADED_B)), bias="lora_only", peft_version="0.9.0")
    assert seen["S402"].startswith("Under trl1.16-py311 1 parameter finds no tensor")
