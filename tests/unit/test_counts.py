"""Closed forms against brute force: every weight matrix of a decoder written out, then summed."""

from __future__ import annotations

import math

from builders import ADAPTER, BIASES, LINEARS, REST
from hypothesis import given
from hypothesis import strategies as st

from harness import counts
from harness.catalog import LORA, MODELS
from harness.records import LoraShape, ModelShape, Precision

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    """Decoders with grouped key/value heads; heads of even size, so that every matrix packs into whole bytes."""
    groups, kv_heads = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return ModelShape(
        family="any",
        vocab_size=draw(st.integers(1, 300)),
        hidden_size=groups * kv_heads * 2 * draw(st.integers(1, 16)),
        intermediate_size=draw(st.integers(1, 300)),
        num_hidden_layers=draw(st.integers(0, 5)),
        num_attention_heads=groups * kv_heads,
        num_key_value_heads=kv_heads,
        qkv_bias=draw(st.booleans()),
    )


def matrices(model: ModelShape) -> list[tuple[str, int, int]]:
    """Name, rows (out) and columns (in) of every linear weight of every block, head by head."""
    head = model.hidden_size // model.num_attention_heads
    found = []
    for _ in range(model.num_hidden_layers):
        found += [("q_proj", head * model.num_attention_heads, model.hidden_size)]
        found += [(name, head * model.num_key_value_heads, model.hidden_size) for name in ("k_proj", "v_proj")]
        found += [("o_proj", model.hidden_size, head * model.num_attention_heads)]
        found += [(name, model.intermediate_size, model.hidden_size) for name in ("gate_proj", "up_proj")]
        found += [("down_proj", model.hidden_size, model.intermediate_size)]
    return found


def vectors(model: ModelShape) -> list[int]:
    """Sizes of every bias and norm."""
    biases = [out for name, out, _ in matrices(model) if model.qkv_bias and name in ("q_proj", "k_proj", "v_proj")]
    return biases + [model.hidden_size] * (2 * model.num_hidden_layers + 1)


@given(shapes(), st.integers(1, 64), st.sets(st.sampled_from(TARGETS)))
def test_adapter_count_is_every_a_and_b_matrix_written_out(model: ModelShape, r: int, targets: set[str]) -> None:
    """LoRA adds an r x in and an out x r matrix to each target, and nothing else."""
    lora = LoraShape(r, 2 * r, 0.0, tuple(targets))
    tensors = [size for name, out, into in matrices(model) if name in targets for size in ((r, into), (out, r))]
    assert counts.adapter(model, lora) == sum(math.prod(size) for size in tensors)


@given(shapes())
def test_logical_count_is_every_tensor_written_out(model: ModelShape) -> None:
    """Embedding, head, all matrices, biases and norms."""
    weights = sum(out * into for _, out, into in matrices(model))
    both_ends = 2 * model.vocab_size * model.hidden_size
    assert counts.base_logical(model) == weights + sum(vectors(model)) + both_ends


@given(shapes(), st.sampled_from(Precision))
def test_only_four_bit_storage_packs_and_packs_each_block_matrix_in_half(
    model: ModelShape, precision: Precision
) -> None:
    """4-bit stores two weights of a block's matrix in one byte; int8 and full precision store each weight."""
    four_bit = precision in (Precision.NF4, Precision.NF4_PLAIN)
    saved = sum(out * into - out * into // 2 for _, out, into in matrices(model)) if four_bit else 0
    assert counts.base_stored(model, precision) == counts.base_logical(model) - saved


def test_tiny_models_have_the_sizes_worked_out_by_hand() -> None:
    """The literals every other test uses."""
    qwen2, llama = MODELS["qwen2"], MODELS["llama"]
    assert counts.adapter(qwen2, LORA) == counts.adapter(llama, LORA) == ADAPTER
    assert (counts.linear_weights(qwen2), counts.linear_biases(qwen2), counts.linear_biases(llama)) == (
        LINEARS,
        BIASES,
        0,
    )
    assert counts.embedding_norm_head(qwen2) == REST
    assert counts.base_logical(qwen2) == 90_688
    assert counts.base_stored(qwen2, Precision.NF4) == 53_824


def test_the_adapter_of_the_reported_model_has_the_reported_size() -> None:
    """Qwen2-VL's language model with r=64 on its seven projections: 161,480,704, as the users of trl#3926 counted."""
    language = ModelShape("qwen2-vl", 152_064, 3584, 18_944, 28, 28, 4, qkv_bias=True)
    assert counts.adapter(language, LoraShape(64, 16, 0.05, TARGETS)) == 161_480_704
