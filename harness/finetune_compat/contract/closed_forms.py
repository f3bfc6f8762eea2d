"""Expected parameter counts in closed form, from a model's config and a LoRA configuration. Pure, no torch.

The sums follow the layer shapes of a Llama-style decoder (Llama, Qwen2): token embedding, per layer four attention
projections, three MLP projections and two norms, one final norm and an untied head. Qwen2-VL and Qwen2.5-VL add a
vision encoder: a patch convolution, blocks with a fused `qkv`, and a merger. Nothing here comes from a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import assert_never

from finetune_compat.contract.catalog import FEED_FORWARD, TRAINED_TOKENS, Extra, Head, Method
from finetune_compat.contract.records import ALL_LINEAR, Area, LoraShape, ModelShape, ModelSizes, Precision, VisionShape


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of shape `out_features x in_features` that a model has `copies` times."""

    name: str
    in_features: int
    out_features: int
    bias: bool
    area: Area
    copies: int

    @property
    def weights(self) -> int:
        """Weights of one copy, without its bias."""
        return self.in_features * self.out_features


def linears(model: ModelShape) -> tuple[Linear, ...]:
    """The linear layers of a model except the head, named by the last part of their module path."""
    return _decoder_linears(model) + (_encoder_linears(model.vision, model.hidden_size) if model.vision else ())


def _decoder_linears(model: ModelShape) -> tuple[Linear, ...]:
    hidden, inner = model.hidden_size, model.intermediate_size
    kv = hidden // model.num_attention_heads * model.num_key_value_heads
    at = (Area.LANGUAGE, model.num_hidden_layers)
    return (
        Linear("q_proj", hidden, hidden, model.qkv_bias, *at),
        Linear("k_proj", hidden, kv, model.qkv_bias, *at),
        Linear("v_proj", hidden, kv, model.qkv_bias, *at),
        Linear("o_proj", hidden, hidden, False, *at),
        Linear("gate_proj", hidden, inner, False, *at),
        Linear("up_proj", hidden, inner, False, *at),
        Linear("down_proj", inner, hidden, False, *at),
    )


def _encoder_linears(vision: VisionShape, out: int) -> tuple[Linear, ...]:
    hidden, inner, at = vision.hidden_size, vision.intermediate_size, (Area.VISION, vision.depth)
    into, back = (("gate_proj", "up_proj"), "down_proj") if vision.gated else (("fc1",), "fc2")
    merged = hidden * vision.spatial_merge_size**2
    return (
        Linear("qkv", hidden, 3 * hidden, True, *at),
        Linear("proj", hidden, hidden, True, *at),
        *(Linear(name, hidden, inner, True, *at) for name in into),
        Linear(back, inner, hidden, True, *at),
        Linear("0", merged, merged, True, Area.PROJECTOR, 1),
        Linear("2", merged, out, True, Area.PROJECTOR, 1),
    )


def linear_weights(model: ModelShape) -> int:
    """Weights of all linears, without biases: what bitsandbytes quantizes. The head is never quantized."""
    return sum(linear.copies * linear.weights for linear in linears(model))


def linear_biases(model: ModelShape) -> int:
    """Biases of all linears; they are never quantized."""
    return sum(linear.copies * linear.out_features for linear in linears(model) if linear.bias)


def never_linear(model: ModelShape) -> int:
    """Token embedding, all norms, an untied head, and the patch convolution of a vision encoder."""
    norms = (2 * model.num_hidden_layers + 1) * model.hidden_size
    return 2 * model.vocab_size * model.hidden_size + norms + (_patches_and_norms(model.vision) if model.vision else 0)


def _patches_and_norms(vision: VisionShape) -> int:
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    # A layer norm has a weight and a bias, an RMS norm a weight; two norms a block and one before the merger.
    norm = vision.hidden_size * (1 if vision.gated else 2)
    return patch * vision.hidden_size + (2 * vision.depth + 1) * norm


def base_logical(model: ModelShape) -> int:
    """All parameters of the model without adapters."""
    return linear_weights(model) + linear_biases(model) + never_linear(model)


def base_stored(model: ModelShape, precision: Precision) -> int:
    """Stored elements of the model without adapters: 4-bit storage packs two weights into one byte."""
    return base_logical(model) - linear_weights(model) + stored_weights(model, precision)


def stored_weights(model: ModelShape, precision: Precision) -> int:
    """Stored elements of all linears, without biases: in 4 bits a matrix has half as many elements, rounded up."""
    return sum(
        linear.copies * ((linear.weights + 1) // 2 if precision.four_bit else linear.weights)
        for linear in linears(model)
    )


def adapter(model: ModelShape, lora: LoraShape) -> int:
    """LoRA parameters of the whole model."""
    return sum(adapters_on(model, lora).values())


def adapters_on(model: ModelShape, lora: LoraShape) -> Mapping[Area, int]:
    """LoRA parameters by area: the sum of `r * (in + out)` over all matched linear layers (LoRA,
    arXiv:2106.09685, section 4.1).
    """
    found: Counter[Area] = Counter()
    for linear in linears(model):
        if _reached(linear, lora):
            found[linear.area] += linear.copies * lora.r * (linear.in_features + linear.out_features)
    return found


def method_on(model: ModelShape, lora: LoraShape, method: Method) -> Mapping[Area, int]:
    """Parameters by area of an adapter of `method`: for LoRA as `adapters_on`, for others the factors of IA3
    (arXiv:2205.05638, section 3.3) and of VeRA (arXiv:2310.11454, section 3.1).
    """
    if method is Method.LORA:
        return adapters_on(model, lora)
    found: Counter[Area] = Counter()
    for linear in linears(model):
        if _reached(linear, lora):
            scaled = linear.in_features if (method, linear.name) == (Method.IA3, FEED_FORWARD) else linear.out_features
            found[linear.area] += linear.copies * (scaled + (lora.r if method is Method.VERA else 0))
    return found


def extras_on(model: ModelShape, lora: LoraShape, extra: Extra) -> Counter[Area]:
    """Parameters by area that a LoRA configuration trains besides `lora_A` and `lora_B`: for DoRA one for each output
    of an adapted layer (arXiv:2402.09353, section 4.1), for others whole modules or rows of them.
    """
    whole = model.vocab_size * model.hidden_size
    match extra:
        case Extra.NOTHING:
            return Counter()
        case Extra.MAGNITUDES:
            found: Counter[Area] = Counter()
            for linear in linears(model):
                if _reached(linear, lora):
                    found[linear.area] += linear.copies * linear.out_features
            return found
        case Extra.MODULES:
            return Counter({Area.EMBEDDING: whole, Area.HEAD: whole})
        case Extra.TOKENS:
            return Counter({Area.EMBEDDING: len(TRAINED_TOKENS) * model.hidden_size})
    assert_never(extra)


@cache  # called ten times per cell, for a few models
def sizes(
    model: ModelShape,
    precision: Precision,
    lora: LoraShape | None,
    head: Head = Head.TOKENS,
    extra: Extra = Extra.NOTHING,
    method: Method = Method.LORA,
) -> ModelSizes:
    """All sizes of a tiny model: linear layers in `precision`, all other weights in float32 or bfloat16. With adapters,
    a score head has a trained copy.
    """
    less = 0 if head is Head.TOKENS else model.vocab_size * model.hidden_size - model.hidden_size
    copied = Counter({Area.HEAD: model.hidden_size} if head is Head.SCORE else {})
    stored = base_stored(model, precision) - less
    # From Transformers 5 on, biases of quantized layers are trainable at load; before, the whole layer is frozen. Both
    # are correct: the biases are not quantized, and preparation freezes them later.
    rest = never_linear(model) - less
    unquantized = "bfloat16" if precision.bf16 else "float32"
    return ModelSizes(
        logical=base_logical(model) - less,
        stored=stored,
        at_load=(rest, rest + linear_biases(model)) if precision.quantized else (stored,),
        adapters_on=Counter(method_on(model, lora, method)) + copied + extras_on(model, lora, extra) if lora else {},
        dtypes=(unquantized, *((("uint8" if precision.four_bit else "int8"),) if precision.quantized else ())),
    )


def _reached(linear: Linear, lora: LoraShape) -> bool:
    named = linear.name in lora.target_modules or lora.target_modules == (ALL_LINEAR,)
    return named and (linear.area is Area.LANGUAGE or not lora.language_only)
