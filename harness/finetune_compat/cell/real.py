"""Real weights, from a directory or the hub: their class, their tokenizer, and their expected sizes.

The sizes come from the config: the libraries of this stack build, quantize and wrap the model on the meta device. No
closed form is needed for its layers and tied weights.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from finetune_compat.cell import adapt, meta
from finetune_compat.cell.models import Model
from finetune_compat.cell.stage_table import answered
from finetune_compat.contract.catalog import ROW_WORDS
from finetune_compat.contract.census import Inability, LoadDtype, Quantization, StageTable, StageTableRequest
from finetune_compat.contract.records import LoraShape, ModelSizes, Precision, Stage

TOKENS_OF_A_WORD = 8
"""Upper bound of the tokens of a word with the blank before it, for example ` w17`: a blank may be three bytes."""


class NoStageTable(Exception):
    """This stack cannot build the model, so its expected sizes are unknown."""


class NoEndOfSequence(Exception):
    """The tokenizer has no end-of-sequence token. Rows must end with one."""


def real_model(place: str, precision: Precision, lora: LoraShape, *, adapters: bool) -> Model:
    """The model in `place`, a directory or a hub id, loaded in bfloat16.

    Raises:
        NoStageTable: this Transformers does not know the model, or rejects its config.
        NoEndOfSequence: the tokenizer has no end-of-sequence token.
        OSError: the config or the tokenizer cannot be read.
    """
    sizes = _sizes(place, precision, lora, adapters)
    return Model(
        loader=meta.class_of(meta.config_of(_config(place))),
        place=place,
        dtype=torch.bfloat16,
        tokenizer=_tokenizer(place),
        max_length=TOKENS_OF_A_WORD * ROW_WORDS,
        sizes=sizes,
    )


@functools.cache
def _config(place: str) -> dict[str, Any]:
    found, _ = PretrainedConfig.get_config_dict(place)
    return dict(found)


@functools.cache
def _tokenizer(place: str) -> PreTrainedTokenizerBase:
    found = AutoTokenizer.from_pretrained(place)
    if found.eos_token is None:
        raise NoEndOfSequence(f"the tokenizer of {place} has no eos_token")
    if found.pad_token is None:
        found.pad_token = found.eos_token  # as users do
    return found


@functools.cache
def _sizes(place: str, precision: Precision, lora: LoraShape, adapters: bool) -> ModelSizes:
    counted = {count.stage: count for count in _stage_table(place, precision, lora).stages}
    loaded, wrapped = counted[Stage.LOAD], counted.get(Stage.PEFT)
    # Without a wrapped stage PEFT rejects the configuration. The flow then ends before adapters count.
    seats = wrapped.adapters_on if adapters and wrapped else {}
    return ModelSizes(
        logical=loaded.total_logical,
        stored=loaded.total,
        at_load=(loaded.trainable,),
        adapters_on={area: count.total for area, count in seats.items()},
        dtypes=tuple(sorted(loaded.dtypes)),
    )


def _stage_table(place: str, precision: Precision, lora: LoraShape) -> StageTable:
    four_bit = Quantization.NF4 if precision.four_bit else Quantization.INT8
    quantization = four_bit if precision.quantized else Quantization.NONE
    found = answered(StageTableRequest(_config(place), adapt.lora_options(lora), quantization, LoadDtype.BF16, False))
    if isinstance(found, Inability):
        raise NoStageTable(f"{found.why}: {found.message} (Transformers {found.transformers})")
    return found
