"""Closed forms against brute force: every weight tensor of a model is listed, then summed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from builders import ADAPTER, BIASES, LINEARS, REST, SIZES
from finetune_compat.contract import closed_forms
from finetune_compat.contract.catalog import LORA, MODELS, Extra, Head, Method, flow_named
from finetune_compat.contract.records import Area, LoraShape, ModelShape, Precision, VisionShape
from hypothesis import given
from hypothesis import strategies as st

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
VISION_TARGETS = ("qkv", "proj", "fc1", "fc2", "0", "2")
Tensor = tuple[Area, str, tuple[int, ...]]


@st.composite
def encoders(draw: st.DrawFn) -> VisionShape:
    """Vision encoders of either layout; heads of even size, so that every matrix packs into whole bytes."""
    heads = draw(st.integers(1, 4))
    return VisionShape(
        depth=draw(st.integers(0, 4)),
        hidden_size=heads * 2 * draw(st.integers(1, 16)),
        intermediate_size=draw(st.integers(1, 300)),
        num_heads=heads,
        patch_size=draw(st.integers(1, 14)),
        temporal_patch_size=draw(st.integers(1, 2)),
        in_channels=draw(st.integers(1, 4)),
        spatial_merge_size=draw(st.integers(1, 3)),
        gated=draw(st.booleans()),
    )


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
        vision=draw(st.none() | encoders()),
    )


def decoder(model: ModelShape) -> list[Tensor]:
    """Every tensor of the language model: area, name and size, head by head."""
    hidden, inner = model.hidden_size, model.intermediate_size
    head = hidden // model.num_attention_heads
    queries, keys = head * model.num_attention_heads, head * model.num_key_value_heads
    found: list[Tensor] = [(Area.EMBEDDING, "embed_tokens.weight", (model.vocab_size, hidden))]
    for _ in range(model.num_hidden_layers):
        for name, out in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            found.append((Area.LANGUAGE, f"{name}.weight", (out, hidden)))
            found += [(Area.LANGUAGE, f"{name}.bias", (out,))] if model.qkv_bias else []
        found += [
            (Area.LANGUAGE, "o_proj.weight", (hidden, queries)),
            (Area.LANGUAGE, "gate_proj.weight", (inner, hidden)),
            (Area.LANGUAGE, "up_proj.weight", (inner, hidden)),
            (Area.LANGUAGE, "down_proj.weight", (hidden, inner)),
            (Area.NORM, "input_layernorm.weight", (hidden,)),
            (Area.NORM, "post_attention_layernorm.weight", (hidden,)),
        ]
    return [*found, (Area.NORM, "norm.weight", (hidden,)), (Area.HEAD, "lm_head.weight", (model.vocab_size, hidden))]


def encoder(vision: VisionShape, out: int) -> list[Tensor]:
    """Every tensor of the vision encoder, including its merger: area, name and size."""
    width, inner = vision.hidden_size, vision.intermediate_size
    patch = (vision.in_channels, vision.temporal_patch_size, vision.patch_size, vision.patch_size)
    found: list[Tensor] = [(Area.VISION, "patch_embed.proj.conv", (width, *patch))]
    mlp = (
        [("gate_proj", inner, width), ("up_proj", inner, width), ("down_proj", width, inner)]
        if vision.gated
        else [("fc1", inner, width), ("fc2", width, inner)]
    )
    for _ in range(vision.depth):
        found += norm(Area.VISION, "norm1", vision) + norm(Area.VISION, "norm2", vision)
        for name, rows, columns in [("qkv", 3 * width, width), ("proj", width, width), *mlp]:
            found += [(Area.VISION, f"{name}.weight", (rows, columns)), (Area.VISION, f"{name}.bias", (rows,))]
    merged = width * vision.spatial_merge_size * vision.spatial_merge_size
    found += norm(Area.PROJECTOR, "ln_q", vision)
    for name, rows in (("0", merged), ("2", out)):
        found += [(Area.PROJECTOR, f"{name}.weight", (rows, merged)), (Area.PROJECTOR, f"{name}.bias", (rows,))]
    return found


def norm(area: Area, name: str, vision: VisionShape) -> list[Tensor]:
    """RMS norms of Qwen2.5-VL have a weight; layer norms of Qwen2-VL also have a bias."""
    leaves = ("weight",) if vision.gated else ("weight", "bias")
    return [(area, f"{name}.{leaf}", (vision.hidden_size,)) for leaf in leaves]


def tensors(model: ModelShape) -> list[Tensor]:
    """Every tensor of the model."""
    return decoder(model) + (encoder(model.vision, model.hidden_size) if model.vision else [])


def matrices(model: ModelShape) -> list[tuple[Area, str, int, int]]:
    """Area, module, rows (out) and columns (in) of every linear weight except the head's."""
    parts = (Area.LANGUAGE, Area.VISION, Area.PROJECTOR)
    return [
        (area, name.removesuffix(".weight"), *size)
        for area, name, size in tensors(model)
        if area in parts and len(size) == 2
    ]


@given(shapes(), st.integers(1, 64), st.sets(st.sampled_from(TARGETS + VISION_TARGETS)), st.booleans())
def test_adapter_count_is_every_a_and_b_matrix_written_out(
    model: ModelShape, r: int, targets: set[str], language_only: bool
) -> None:
    """LoRA adds an r x in and an out x r matrix to each target, in the target's part of the model, and nothing else."""
    lora = LoraShape(r, 2 * r, 0.0, tuple(targets), language_only)
    wanted: Counter[Area] = Counter()
    for area, name, out, into in matrices(model):
        if name in targets and (area is Area.LANGUAGE or not language_only):
            wanted[area] += math.prod((r, into)) + math.prod((out, r))
    assert closed_forms.adapters_on(model, lora) == wanted
    assert closed_forms.adapter(model, lora) == sum(wanted.values())


@given(shapes())
def test_logical_count_is_every_tensor_written_out(model: ModelShape) -> None:
    """Embedding, head, patches, all matrices, biases and norms."""
    assert closed_forms.base_logical(model) == sum(math.prod(size) for _, _, size in tensors(model))


@given(shapes())
def test_what_is_no_linear_layer_is_the_rest(model: ModelShape) -> None:
    """Weights of linear layers, their biases, and the rest partition all tensors."""
    linear = {name for _, name, _, _ in matrices(model)}
    biases = sum(
        size[0] for _, name, size in tensors(model) if name.endswith(".bias") and name.removesuffix(".bias") in linear
    )
    weights = sum(out * into for _, _, out, into in matrices(model))
    total = sum(math.prod(size) for _, _, size in tensors(model))
    assert (closed_forms.linear_weights(model), closed_forms.linear_biases(model)) == (weights, biases)
    assert closed_forms.never_linear(model) == total - weights - biases


@given(shapes(), st.sampled_from(Precision))
def test_only_four_bit_storage_packs_and_packs_each_matrix_in_half(model: ModelShape, precision: Precision) -> None:
    """4-bit stores two weights of a matrix in one byte; int8 and full precision store each weight."""
    four_bit = precision in (Precision.NF4, Precision.NF4_PLAIN, Precision.NF4_BF16)
    saved = sum(out * into - out * into // 2 for _, _, out, into in matrices(model)) if four_bit else 0
    assert closed_forms.base_stored(model, precision) == closed_forms.base_logical(model) - saved


def test_a_matrix_with_an_odd_number_of_weights_takes_one_byte_more_than_half() -> None:
    """bitsandbytes packs each matrix separately: 3 x 3 weights take 5 bytes, and two of them 10."""
    odd = ModelShape("any", 1, 3, 3, 2, 3, 3, qkv_bias=False)
    assert closed_forms.stored_weights(odd, Precision.NF4) == 2 * 7 * 5


def test_tiny_models_have_the_sizes_worked_out_by_hand() -> None:
    """All other tests use these literals."""
    qwen2, llama = MODELS["qwen2"].shape, MODELS["llama"].shape
    assert closed_forms.adapter(qwen2, LORA) == closed_forms.adapter(llama, LORA) == ADAPTER
    assert (
        closed_forms.linear_weights(qwen2),
        closed_forms.linear_biases(qwen2),
        closed_forms.linear_biases(llama),
    ) == (
        LINEARS,
        BIASES,
        0,
    )
    assert closed_forms.never_linear(qwen2) == REST
    assert closed_forms.base_logical(qwen2) == 90_688
    assert closed_forms.base_stored(qwen2, Precision.NF4) == 53_824


@pytest.mark.parametrize("name", MODELS)
def test_every_tiny_model_has_the_sizes_worked_out_by_hand(name: str) -> None:
    """This includes the vision encoder and what LoRA reaches in it."""
    tiny, sizes = MODELS[name], SIZES[name]
    assert (
        closed_forms.linear_weights(tiny.shape),
        closed_forms.linear_biases(tiny.shape),
        closed_forms.never_linear(tiny.shape),
    ) == (sizes.linears, sizes.biases, sizes.rest)
    on_vision = {Area.VISION: sizes.vision_adapter} if sizes.vision_adapter else {}
    assert closed_forms.adapters_on(tiny.shape, tiny.lora) == {Area.LANGUAGE: ADAPTER, **on_vision}


def test_bare_names_reach_the_vision_encoder_where_it_has_the_same_names() -> None:
    """Qwen2.5-VL's blocks have a gate_proj, up_proj and down_proj; Qwen2-VL's do not."""
    old, new = MODELS["qwen2-vl"], MODELS["qwen2.5-vl"]
    assert closed_forms.adapter(old.shape, LORA) == ADAPTER
    # 2 blocks x r 8 x 3 x (32 + 128).
    assert closed_forms.adapters_on(new.shape, LORA) == {Area.LANGUAGE: ADAPTER, Area.VISION: 7_680}


QWEN2_VL_7B = ModelShape(
    "qwen2-vl",
    152_064,
    3584,
    18_944,
    28,
    28,
    4,
    qkv_bias=True,
    vision=VisionShape(
        depth=32,
        hidden_size=1280,
        intermediate_size=4 * 1280,
        num_heads=16,
        patch_size=14,
        temporal_patch_size=2,
        in_channels=3,
        spatial_merge_size=2,
        gated=False,
    ),
)
"""Qwen/Qwen2-VL-7B-Instruct, from its config.json; the MLP ratio of its vision encoder is 4."""

R64 = LoraShape(64, 16, 0.05, TARGETS)


def test_the_adapter_of_the_reported_model_has_the_reported_size() -> None:
    """Qwen2-VL-7B, r=64 on its seven projections: 161,480,704 of 8,452,856,320, as the users of trl#3926 reported."""
    # A layer's in + out: q and o 7,168 each, k and v 3,584 + 512 = 4,096 each, gate, up and down 22,528 each.
    assert 28 * 64 * (2 * 7_168 + 2 * 4_096 + 3 * 22_528) == 161_480_704
    assert closed_forms.adapters_on(QWEN2_VL_7B, R64) == {Area.LANGUAGE: 161_480_704}
    # The vision encoder has none of the names, so the adapter is the one on the language model.
    assert closed_forms.adapter(replace(QWEN2_VL_7B, vision=None), R64) == 161_480_704
    assert closed_forms.base_logical(QWEN2_VL_7B) == 8_291_375_616
    assert closed_forms.base_logical(QWEN2_VL_7B) + closed_forms.adapter(QWEN2_VL_7B, R64) == 8_452_856_320


def test_the_reported_model_in_four_bits_has_the_size_worked_out_by_hand() -> None:
    """Two weights of a linear layer take a byte; everything else and the adapters are not packed."""
    # A layer: q and o 3584^2, k and v 3584 x 512, gate, up and down 3584 x 18944; 28 of them.
    language = 28 * (2 * 12_845_056 + 2 * 1_835_008 + 3 * 67_895_296)
    # A block: qkv 1280 x 3840, proj 1280^2, fc1 and fc2 1280 x 5120; 32 of them. Merger: 5120^2 and 5120 x 3584.
    vision = 32 * (4_915_200 + 1_638_400 + 2 * 6_553_600) + 26_214_400 + 18_350_080
    assert (language, vision) == (6_525_288_448, 673_710_080)
    # Biases: q 3584, k and v 512 in 28 layers; qkv 3840, proj 1280, fc1 5120, fc2 1280 in 32 blocks; merger 5120, 3584.
    biases = 28 * (3_584 + 2 * 512) + 32 * (3_840 + 1_280 + 5_120 + 1_280) + 5_120 + 3_584
    # Embedding and head 152064 x 3584 each, 57 norms of 3584, patches 1280 x (3 x 2 x 14 x 14), 65 norms of 2 x 1280.
    rest = 2 * 544_997_376 + 57 * 3_584 + 1_280 * 1_176 + 65 * 2_560
    assert (biases, rest) == (506_368, 1_091_870_720)
    assert language + vision + biases + rest == 8_291_375_616
    stored = (language + vision) // 2 + biases + rest
    assert stored == closed_forms.base_stored(QWEN2_VL_7B, Precision.NF4) == 4_691_876_352
    assert stored + closed_forms.adapter(QWEN2_VL_7B, R64) == 4_853_357_056


@pytest.mark.parametrize(
    ("precision", "stored", "at_load", "dtypes"),
    [
        (Precision.NF4, 53_824, {REST, REST + 256}, {"float32", "uint8"}),
        (Precision.NF4_PLAIN, 53_824, {REST, REST + 256}, {"float32", "uint8"}),
        (Precision.INT8, 90_688, {REST, REST + 256}, {"float32", "int8"}),
        (Precision.FULL, 90_688, {90_688}, {"float32"}),
        (Precision.NF4_BF16, 53_824, {REST, REST + 256}, {"bfloat16", "uint8"}),
        (Precision.BF16, 90_688, {90_688}, {"bfloat16"}),
    ],
)
def test_the_sizes_of_a_tiny_model_are_its_closed_forms(
    precision: Precision, stored: int, at_load: set[int], dtypes: set[str]
) -> None:
    """53,824 is 90,688 less half of the 73,728 weights that 4 bits pack; 256 are Qwen2's biases."""
    found = closed_forms.sizes(MODELS["qwen2"].shape, precision, LORA)
    assert (found.logical, found.stored, set(found.at_load)) == (90_688, stored, at_load)
    assert (found.adapters_on, set(found.dtypes)) == ({Area.LANGUAGE: ADAPTER}, dtypes)
    assert closed_forms.sizes(MODELS["qwen2"].shape, precision, None).adapters_on == {}


@pytest.mark.parametrize(
    ("extra", "on"),
    [
        # 2 layers x (q 64 + k 32 + v 32 + o 64 + gate 128 + up 128 + down 64).
        (Extra.MAGNITUDES, {Area.LANGUAGE: ADAPTER + 1_024}),
        (Extra.MODULES, {Area.LANGUAGE: ADAPTER, Area.EMBEDDING: 8_192, Area.HEAD: 8_192}),
        (Extra.TOKENS, {Area.LANGUAGE: ADAPTER, Area.EMBEDDING: 3 * 64}),
    ],
)
def test_what_an_adapter_trains_besides_lora(extra: Extra, on: dict[Area, int]) -> None:
    """The base model stays as it is."""
    shape = MODELS["qwen2"].shape
    found = closed_forms.sizes(shape, Precision.NF4, LORA, extra=extra)
    plain = closed_forms.sizes(shape, Precision.NF4, LORA)
    assert found.adapters_on == on
    assert (found.logical, found.stored, found.at_load) == (plain.logical, plain.stored, plain.at_load)


def test_a_score_head_is_one_row_and_adapters_have_a_copy_of_it() -> None:
    """The head of tokens has 128 x 64 weights, that of scores 1 x 64."""
    shape = MODELS["qwen2"].shape
    found = closed_forms.sizes(shape, Precision.NF4, LORA, Head.SCORE)
    assert (found.logical, found.stored) == (90_688 - 8_192 + 64, 53_824 - 8_192 + 64)
    assert set(found.at_load) == {REST - 8_192 + 64, REST - 8_192 + 64 + 256}
    assert found.adapters_on == {Area.LANGUAGE: ADAPTER, Area.HEAD: 64}
    assert closed_forms.sizes(shape, Precision.FULL, None, Head.SCORE).adapters_on == {}


@pytest.mark.parametrize(
    ("flow", "method", "trained"),
    [
        # 2 layers x (q 64 + k 32 + v 32 + o 64 + gate 128 + up 128 outputs, and 128 inputs of down).
        ("sft-ia3", Method.IA3, 1_152),
        # 2 layers x (q and o, 64 outputs and 8 ranks each).
        ("sft-vera", Method.VERA, 288),
        # The same matrices as LoRA.
        ("sft-rslora", Method.LORA, ADAPTER),
        ("sft-pissa", Method.LORA, ADAPTER),
    ],
)
def test_what_other_methods_train(flow: str, method: Method, trained: int) -> None:
    """The base model stays as it is."""
    row, shape = flow_named(flow), MODELS["qwen2"].shape
    assert row.method is method
    found = closed_forms.sizes(shape, Precision.NF4, row.lora or LORA, method=row.method)
    plain = closed_forms.sizes(shape, Precision.NF4, LORA)
    assert found.adapters_on == {Area.LANGUAGE: trained}
    assert (found.logical, found.stored, found.at_load) == (plain.logical, plain.stored, plain.at_load)
