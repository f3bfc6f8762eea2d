"""Parsing names of tensors, and summarising names of modules."""

from __future__ import annotations

import pytest
from finetune_compat.inspect.names import Name, Part, parse, places
from hypothesis import given
from hypothesis import strategies as st

Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "module", "part"),
    [
        (f"{Q}.lora_A.weight", Q, Part.LORA_A),
        (f"{Q}.lora_B.weight", Q, Part.LORA_B),
        (f"{Q}.lora_B.bias", Q, Part.LORA_BIAS),
        (f"{Q}.lora_magnitude_vector", Q, Part.MAGNITUDE),
        (f"{Q}.lora_magnitude_vector.weight", Q, Part.MAGNITUDE),
        (f"{Q}.base_layer.bias", Q, Part.BIAS),
        (f"{Q}.bias", Q, Part.BIAS),
        ("model.embed_tokens.lora_embedding_A", "model.embed_tokens", Part.EMBEDDING_A),
        ("model.embed_tokens.lora_embedding_B", "model.embed_tokens", Part.EMBEDDING_B),
        ("model.embed_tokens.base_layer.weight", "model.embed_tokens", Part.EMBEDDING),
        ("model.embed_tokens.weight", "model.embed_tokens", Part.EMBEDDING),
        ("model.embed_tokens.token_adapter.trainable_tokens_delta", "model.embed_tokens", Part.TOKENS),
        ("transformer.wte.weight", "transformer.wte", Part.EMBEDDING),
        ("lm_head.weight", "lm_head", Part.HEAD),
        ("score.modules_to_save.weight", "score", Part.HEAD),
        ("model.norm.weight", "model.norm", Part.NORM),
        ("model.layers.1.input_layernorm.weight", "model.layers.1.input_layernorm", Part.NORM),
        ("transformer.h.0.ln_1.weight", "transformer.h.0.ln_1", Part.NORM),
        ("model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate", Part.OTHER),
        (f"{Q}.lora_sampler.first.weight", Q, Part.OTHER),
        ("mlp.experts.base_layer.lora_A.weight", "mlp.experts.base_layer", Part.LORA_A),
    ],
)
def test_a_name_has_a_module_and_a_class(name: str, module: str, part: Part) -> None:
    """The names are those that PEFT 0.9.0 to 0.21.2 write."""
    seen = parse(f"base_model.model.{name}")
    assert (seen.module, seen.part, seen.foreign, seen.prefixed) == (module, part, "", True)


@pytest.mark.parametrize(
    ("name", "foreign", "prefixed"),
    [
        (f"base_model.model.{Q}.lora_A.default.weight", "default", True),
        ("base_model.model.model.embed_tokens.lora_embedding_A.mine", "mine", True),
        (f"base_model.model._orig_mod.{Q}.lora_A.weight", "_orig_mod", True),
        (f"_orig_mod.base_model.model.{Q}.lora_A.weight", "_orig_mod", True),
        (f"base_model.model.module.{Q}.lora_A.weight", "module", True),
        (f"module.{Q}.lora_A.weight", "module", False),
        (f"{Q}.lora_A.weight", "", False),
        ("base_model.model.model._checkpoint_wrapped_module.norm.weight", "_checkpoint_wrapped_module", True),
    ],
)
def test_prefixes_that_peft_does_not_write_are_removed(name: str, foreign: str, prefixed: bool) -> None:
    """The module is the same without it."""
    seen = parse(name)
    assert (seen.foreign, seen.prefixed) == (foreign, prefixed)
    assert seen.module in (Q, "model.embed_tokens", "model.norm")


def test_a_part_of_a_model_may_be_called_module() -> None:
    """Only the outermost `module` is a wrapper."""
    assert parse("base_model.model.encoder.module.q.lora_A.weight") == Name(
        "encoder.module.q", Part.LORA_A, "lora_A", "", True
    )


def test_a_class_without_a_name_of_its_own_is_called_by_its_suffix() -> None:
    """Other methods have such classes."""
    assert parse("base_model.model.q.vera_lambda_b").class_name == "vera_lambda_b"
    assert parse("base_model.model.q.lora_E").class_name == "lora_E"
    assert parse("base_model.model.q.lora_A.weight").class_name == "lora_A"


@pytest.mark.parametrize(
    ("modules", "shown"),
    [
        (("a.0.q", "a.1.q", "a.2.q"), ("a.0-2.q",)),
        (("a.2.q", "a.0.q", "a.10.q"), ("a.0,2,10.q",)),
        (("a.0.q", "a.0.v", "a.1.q"), ("a.0-1.q", "a.0.v")),
        (("a.0.experts.1.q", "a.0.experts.2.q"), ("a.0.experts.1.q", "a.0.experts.2.q")),
        (("lm_head", "q_proj2", "lm_head"), ("lm_head", "q_proj2")),
        ((), ()),
    ],
)
def test_modules_that_differ_in_their_layer_are_written_as_one(
    modules: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    """Only the first number that stands alone between dots is a layer."""
    assert places(modules) == shown


@given(st.sets(st.integers(0, 30), min_size=1))
def test_no_layer_is_lost_in_a_range(layers: set[int]) -> None:
    """Parsing the ranges gives the original layers."""
    (shown,) = places(f"layers.{layer}.q" for layer in layers)
    spans = [span.split("-") for span in shown.removeprefix("layers.").removesuffix(".q").split(",")]
    assert {n for span in spans for n in range(int(span[0]), int(span[-1]) + 1)} == layers
