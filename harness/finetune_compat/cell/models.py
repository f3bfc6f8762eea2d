"""The model that a flow trains. Tiny models get random weights and are saved to disk once per process, so that flows
load them as users do. Real models come from `finetune_compat.cell.real`.
"""

from __future__ import annotations

import functools
import hashlib
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from finetune_compat.cell.data import EOS, IMAGE, PAD, VIDEO, VISION_END, VISION_START, tokenizer
from finetune_compat.contract.catalog import LLAMA, QWEN2, QWEN2_5_VL, QWEN2_VL, ROW_WORDS
from finetune_compat.contract.records import ModelShape, ModelSizes, VisionShape

LONGEST_POSITION = 128

INITIALIZER_RANGE = 0.05
"""Standard deviation of random weights. With the usual 0.02, the output of a frozen tiny head is too flat to show
learning.
"""

_CLASSES = {
    QWEN2: ("Qwen2Config", "Qwen2ForCausalLM"),
    LLAMA: ("LlamaConfig", "LlamaForCausalLM"),
    QWEN2_VL: ("Qwen2VLConfig", "Qwen2VLForConditionalGeneration"),
    QWEN2_5_VL: ("Qwen2_5_VLConfig", "Qwen2_5_VLForConditionalGeneration"),
}


def _model_class(family: str) -> type[PreTrainedModel]:
    """The class with which users load a model of `family`."""
    # By name, because some releases lack some of the classes.
    found: type[PreTrainedModel] = getattr(transformers, _CLASSES[family][1])
    return found


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a flow: where it is, and how it is loaded."""

    loader: type[PreTrainedModel]
    """The class with which users load it."""
    place: str
    """A directory, or a hub id."""
    dtype: torch.dtype
    """Dtype of the weights that are not quantized, and compute dtype of those that are."""
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    """Tokens at which a row is truncated. All rows are shorter."""
    vision: VisionShape | None = None
    """Set for a tiny vision-language model, which is trained on pictures. A real one is trained on text."""
    weights_sha256: str | None = None
    """Digest of the weights: results of two stacks are comparable only if it is equal. None for real weights, which are
    not read for it.
    """
    sizes: ModelSizes | None = None
    """Set for real weights. The sizes of a tiny model follow from its shape."""


@functools.cache
def tiny_model(shape: ModelShape, seed: int, parent: Path) -> Model:
    """A tiny model of `shape` with random float32 weights, saved below `parent`."""
    directory = Path(tempfile.mkdtemp(prefix=f"{shape.family}-", dir=parent))
    model: Any = _model_class(shape.family)(_config(shape)).to(torch.float32)
    digest = _fill(model, seed)
    model.save_pretrained(directory)
    return Model(
        loader=_model_class(shape.family),
        place=str(directory),
        dtype=torch.float32,
        tokenizer=tokenizer(),
        max_length=2 * ROW_WORDS,
        vision=shape.vision,
        weights_sha256=digest,
    )


def _fill(model: nn.Module, seed: int) -> str:
    """Draw every parameter from `seed` and its name. The initialization of a release would depend on the release.

    Returns:
        A digest of all values.
    """
    named = sorted((_canonical(name), parameter) for name, parameter in model.named_parameters())
    digest = hashlib.sha256()
    for name, parameter in named:
        parameter.data = _drawn(name, parameter, seed)
        digest.update(name.encode() + parameter.data.numpy().tobytes())
    return digest.hexdigest()


def _canonical(name: str) -> str:
    """The name without the container modules that differ between releases."""
    return ".".join(part for part in name.split(".") if part not in ("model", "language_model"))


def _drawn(name: str, parameter: torch.Tensor, seed: int) -> torch.Tensor:
    if "norm" in name or "ln_q" in name:
        return torch.zeros(parameter.shape) if name.endswith("bias") else torch.ones(parameter.shape)
    generator = torch.Generator().manual_seed(seed * 2**32 + zlib.crc32(name.encode()))
    return torch.randn(parameter.shape, generator=generator) * INITIALIZER_RANGE


def _config(shape: ModelShape) -> PretrainedConfig:
    found: PretrainedConfig = getattr(transformers, _CLASSES[shape.family][0])(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=LONGEST_POSITION,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
        **(_vision_options(shape, shape.vision) if shape.vision else {}),
    )
    return found


def _vision_options(shape: ModelShape, vision: VisionShape) -> dict[str, Any]:
    half = shape.hidden_size // shape.num_attention_heads // 2
    return {
        # Time, height and width share the rotary frequencies, here as 2:3:3.
        "rope_scaling": {"type": "mrope", "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8]},
        "vision_start_token_id": VISION_START,
        "vision_end_token_id": VISION_END,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
        "vision_config": {
            "depth": vision.depth,
            "num_heads": vision.num_heads,
            "patch_size": vision.patch_size,
            "temporal_patch_size": vision.temporal_patch_size,
            "in_channels": vision.in_channels,
            "spatial_merge_size": vision.spatial_merge_size,
            **(_gated_options if vision.gated else _plain_options)(shape, vision),
        },
    }


def _plain_options(shape: ModelShape, vision: VisionShape) -> dict[str, Any]:
    """Qwen2-VL calls the width of its blocks `embed_dim`, and `hidden_size` the width of what leaves the encoder."""
    ratio = vision.intermediate_size // vision.hidden_size
    return {"embed_dim": vision.hidden_size, "hidden_size": shape.hidden_size, "mlp_ratio": ratio}


def _gated_options(shape: ModelShape, vision: VisionShape) -> dict[str, Any]:
    """Options of Qwen2.5-VL. `hidden_size` is the width of its blocks. Blocks attend in windows, except those in
    `fullatt_block_indexes`.
    """
    return {
        "hidden_size": vision.hidden_size,
        "out_hidden_size": shape.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "window_size": vision.patch_size * vision.spatial_merge_size,
        "fullatt_block_indexes": [vision.depth - 1],
    }
