"""Which modules a configuration adapts, with which rank and scaling, by PEFT's rules of matching."""

from __future__ import annotations

import math
from typing import Any

import pytest
from adapters import PREFIX, update
from finetune_compat.inspect.config import AdapterConfig
from finetune_compat.inspect.layers import Layer, layers_of, targets
from finetune_compat.inspect.names import parse
from finetune_compat.inspect.weights import Tensor

Q = "model.layers.1.self_attn.q_proj"


def config(**given: Any) -> AdapterConfig:
    """A LoRA configuration."""
    return AdapterConfig("LORA", **{"target_modules": ("q_proj",), **given})


def layer(module: str = Q, **given: Any) -> Layer:
    """The only layer of an adapter of `module`."""
    tensors = [Tensor(name, "F32", array.shape, array.size, None, "") for name, array in update(module).items()]
    (found,) = layers_of(config(**given), tensors, {tensor.name: parse(tensor.name) for tensor in tensors})
    return found


@pytest.mark.parametrize(
    ("asked", "hit"),
    [
        ({"target_modules": ("q_proj", "v_proj")}, True),
        ({"target_modules": ("self_attn.q_proj",)}, True),
        ({"target_modules": (Q,)}, True),
        ({"target_modules": ("proj",)}, False),  # no dot in front of it
        ({"target_modules": ("v_proj",)}, False),
        ({"target_modules": ()}, False),
        ({"target_modules": None}, False),
        ({"target_modules": r".*\.(q|v)_proj"}, True),
        ({"target_modules": "q_proj"}, False),  # a string is an expression for the whole name
        ({"target_modules": "all-linear"}, True),
        ({"layers_to_transform": 1}, True),
        ({"layers_to_transform": (0, 1)}, True),
        ({"layers_to_transform": (0, 2)}, False),
        ({"layers_to_transform": ()}, True),
        ({"layers_to_transform": (1,), "layers_pattern": "layers"}, True),
        ({"layers_to_transform": (1,), "layers_pattern": ("blocks", "layers")}, True),
        ({"layers_to_transform": (1,), "layers_pattern": "blocks"}, False),
        ({"target_modules": (Q,), "layers_to_transform": (0,)}, True),  # PEFT checks no layer for a whole name
        ({"exclude_modules": ("q_proj",)}, False),
        ({"exclude_modules": (Q,)}, False),
        ({"exclude_modules": ("proj", "v_proj")}, True),
        ({"exclude_modules": ()}, True),
        ({"exclude_modules": r".*\.self_attn\..*"}, False),
        ({"exclude_modules": "q_proj"}, True),  # a string is an expression for the whole name
        ({"target_modules": (Q,), "exclude_modules": ("q_proj",)}, False),
        ({"target_modules": r".*_proj", "exclude_modules": r".*q_proj"}, False),
        ({"target_modules": "all-linear", "exclude_modules": ("q_proj",)}, False),
    ],
)
def test_a_target_is_matched_as_peft_matches_it(asked: dict[str, Any], hit: bool) -> None:
    """A name matches from a dot to its end, an expression matches the whole name, and only requested layers match."""
    assert targets(config(**asked), Q) is hit


def test_the_layer_is_the_first_number_of_a_name() -> None:
    """The second number is an expert."""
    module = "model.layers.1.mlp.experts.0.up_proj"
    assert targets(config(target_modules=("up_proj",), layers_to_transform=(1,)), module)
    assert not targets(config(target_modules=("up_proj",), layers_to_transform=(0,)), module)


@pytest.mark.parametrize(
    ("given", "rank", "alpha", "scaling"),
    [
        ({"r": 8, "lora_alpha": 32}, 8, 32, 4),
        ({"r": 16, "lora_alpha": 32, "use_rslora": True}, 16, 32, 8),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4}}, 4, 16, 4),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"v_proj": 4}}, 8, 16, 2),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"proj": 4}}, 8, 16, 2),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {r"layers\.\d+\.self_attn\..*": 2}}, 2, 16, 8),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"^model.*": 1, "q_proj": 4}}, 1, 16, 16),
        ({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 64}}, 8, 64, 8),
        ({"r": 9, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {"q_proj": 4}}, 4, 6, 3),
        ({"r": 8, "lora_alpha": 0}, 8, 0, 0),
    ],
)
def test_scaling_is_alpha_over_the_rank_or_its_root(
    given: dict[str, Any], rank: int, alpha: float, scaling: float
) -> None:
    """The first pattern that matches the end of the module's name sets its rank and alpha."""
    seen = layer(**given)
    assert (seen.rank_asked, seen.alpha) == (rank, alpha)
    assert math.isclose(seen.scaling, scaling)


@pytest.mark.parametrize(
    ("parameters", "module", "hit"),
    [
        (("mlp.experts.gate_up_proj",), "model.layers.0.mlp.experts", True),
        (("mlp.experts.gate_up_proj",), "model.layers.0.mlp.experts.base_layer.base_layer", True),
        (("experts.down_proj",), "model.layers.0.mlp.my_experts", False),
        (("down_proj",), "model.layers.0.mlp.experts", True),
        (None, "model.layers.0.mlp.experts", False),
    ],
)
def test_a_parameter_is_adapted_through_its_module(parameters: tuple[str, ...] | None, module: str, hit: bool) -> None:
    """Each inner wrapper of a module is its `base_layer`; a bare name may belong to any module."""
    seen = layer(module, target_parameters=parameters)
    assert (seen.targeted, seen.by_parameter) == (hit, hit)


def test_a_layer_has_both_factors_whatever_they_are_called() -> None:
    """In an embedding, A starts at zero."""
    linear = layer()
    assert [tensor and tensor.name for tensor in (*linear.factors, linear.born_zero)] == [
        f"{PREFIX}{Q}.lora_A.weight",
        f"{PREFIX}{Q}.lora_B.weight",
        f"{PREFIX}{Q}.lora_B.weight",
    ]
    tensors = [
        Tensor(f"{PREFIX}wte.lora_embedding_A", "F32", (2, 9), 18, None, ""),
        Tensor(f"{PREFIX}wte.lora_embedding_B", "F32", (6, 2), 12, None, ""),
    ]
    (seen,) = layers_of(config(), tensors, {tensor.name: parse(tensor.name) for tensor in tensors})
    assert (seen.factors, seen.born_zero, seen.ranks) == ((*tensors,), tensors[0], (2, 2))
