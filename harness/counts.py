"""Expected parameter counts in closed form, from a model's config and a LoRA configuration. Pure, no torch.

The sums follow the layer shapes of a Llama-style decoder (Llama, Qwen2): token embedding, per layer four attention
projections, three MLP projections and two norms, one final norm and an untied head. Nothing here comes from a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.records import LoraShape, ModelShape, Precision


@dataclass(frozen=True, slots=True)
class Linear:
    """One linear layer of a decoder block: `out_features x in_features`, perhaps with a bias of `out_features`."""

    name: str
    in_features: int
    out_features: int
    bias: bool


def block_linears(model: ModelShape) -> tuple[Linear, ...]:
    """The linear layers of one decoder block, by the names their modules carry."""
    hidden, inner = model.hidden_size, model.intermediate_size
    kv = hidden // model.num_attention_heads * model.num_key_value_heads
    return (
        Linear("q_proj", hidden, hidden, model.qkv_bias),
        Linear("k_proj", hidden, kv, model.qkv_bias),
        Linear("v_proj", hidden, kv, model.qkv_bias),
        Linear("o_proj", hidden, hidden, False),
        Linear("gate_proj", hidden, inner, False),
        Linear("up_proj", hidden, inner, False),
        Linear("down_proj", inner, hidden, False),
    )


def linear_weights(model: ModelShape) -> int:
    """Weights of all block linears, without biases: what bitsandbytes stores quantized (the head is left as it is)."""
    per_block = sum(linear.in_features * linear.out_features for linear in block_linears(model))
    return model.num_hidden_layers * per_block


def linear_biases(model: ModelShape) -> int:
    """Biases of all block linears; they are never quantized."""
    return model.num_hidden_layers * sum(linear.out_features for linear in block_linears(model) if linear.bias)


def embedding_norm_head(model: ModelShape) -> int:
    """Token embedding, all norms, and an untied head."""
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    return 2 * model.vocab_size * model.hidden_size + norms


def base_logical(model: ModelShape) -> int:
    """All parameters of the model without adapters."""
    return linear_weights(model) + linear_biases(model) + embedding_norm_head(model)


def base_stored(model: ModelShape, precision: Precision) -> int:
    """Stored elements of the model without adapters: 4-bit storage packs two weights into one byte."""
    return base_logical(model) - linear_weights(model) + stored_weights(model, precision)


def stored_weights(model: ModelShape, precision: Precision) -> int:
    """Stored elements of all block linears, without biases: in 4 bits a matrix takes half its size, rounded up."""
    sizes = [linear.in_features * linear.out_features for linear in block_linears(model)]
    return model.num_hidden_layers * sum((size + 1) // 2 if precision.four_bit else size for size in sizes)


def adapter(model: ModelShape, lora: LoraShape) -> int:
    """LoRA parameters: the sum of `r * (in + out)` over all matched linear layers (LoRA, arXiv:2106.09685, section
    4.1).
    """
    matched = (linear for linear in block_linears(model) if linear.name in lora.target_modules)
    per_block = sum(lora.r * (linear.in_features + linear.out_features) for linear in matched)
    return model.num_hidden_layers * per_block
