"""Tiny models from config with random weights, saved to disk once per process so that flows load them as users do."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, PreTrainedModel, Qwen2Config, set_seed

from harness.catalog import LLAMA, MODELS, QWEN2
from harness.cell.data import EOS, PAD
from harness.records import ModelShape

LONGEST_POSITION = 128

INITIALIZER_RANGE = 0.05
"""Standard deviation of random weights. The usual 0.02 leaves a frozen tiny head too flat to tell learning by."""

_CONFIGS: dict[str, type[PretrainedConfig]] = {QWEN2: Qwen2Config, LLAMA: LlamaConfig}


@functools.cache
def saved_model(family: str, seed: int, parent: Path) -> Path:
    """Directory, made below `parent`, of a saved tiny model of `family` with random float32 weights."""
    set_seed(seed)
    directory = Path(tempfile.mkdtemp(prefix=f"{family}-", dir=parent))
    model: PreTrainedModel = AutoModelForCausalLM.from_config(_config(MODELS[family]))
    model.to(torch.float32).save_pretrained(directory)
    return directory


def _config(shape: ModelShape) -> PretrainedConfig:
    return _CONFIGS[shape.family](
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_hidden_layers,
        num_attention_heads=shape.num_attention_heads,
        num_key_value_heads=shape.num_key_value_heads,
        max_position_embeddings=LONGEST_POSITION,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
