"""Build a model without weights: from its config on the meta device, quantized and loaded as the stack does it.

Differences between versions of Transformers in building and loading a model are only in this module.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import bitsandbytes as bnb
import torch
import transformers
from torch import nn
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel
from transformers.integrations import bitsandbytes as bnb_integration
from transformers.models.auto import configuration_auto, modeling_auto
from transformers.pytorch_utils import Conv1D
from transformers.quantizers import AutoHfQuantizer

from finetune_compat.cell.model_classes import model_class
from finetune_compat.contract.census import LoadDtype, Quantization

# torch imports its compiler, 800 modules, when it first computes with meta tensors. Imported here, it does not count as
# time of a census.
importlib.import_module("torch._dynamo")

DTYPES = {LoadDtype.BF16: torch.bfloat16, LoadDtype.FP32: torch.float32}

QUANTIZED = ("Params4bit", "Int8Params")
"""Names of the classes of quantized weights. PEFT and TRL compare the names too."""

BLOCK, CODES = 64, 16
"""In bitsandbytes' NF4: number of weights that share a scale, and number of values of a weight before scaling."""

_AUTO_MAPPINGS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING",
    "MODEL_FOR_VISION_2_SEQ_MAPPING",
)
"""Mappings that give the class of a config without `architectures`, in order. Transformers 5 lacks the last one."""


class NoClass(Exception):
    """This Transformers has no class for the config."""


class Rejected(Exception):
    """This Transformers has the class and rejects the config."""


def config_of(raw: Mapping[str, Any]) -> PretrainedConfig:
    """The config of `raw`, a parsed `config.json`, as `AutoConfig` reads it.

    Raises:
        NoClass: this Transformers does not know the model type.
        Rejected: this version of the config class does not accept a value.
    """
    try:
        known = configuration_auto.CONFIG_MAPPING[raw["model_type"]]
    except KeyError:
        raise NoClass(f"model type {raw['model_type']!r}") from None
    try:
        return known.from_dict(dict(raw))
    except Exception as error:  # noqa: BLE001 - each config class checks in its own way
        raise Rejected(f"{type(error).__name__}: {error}") from None


def class_of(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The model class that the config names. If it names none, the class that the Auto classes find.

    Raises:
        NoClass: this Transformers has no such class.
    """
    named = model_class(config.architectures)
    if named is not None:
        return named
    mappings = [getattr(modeling_auto, name, {}) for name in _AUTO_MAPPINGS]
    found = next((mapping[type(config)] for mapping in mappings if type(config) in mapping), None)
    if found is None or config.architectures:
        unnamed = f"causal or vision-language model of {type(config).__name__}"
        raise NoClass(" or ".join(config.architectures or (unnamed,)))
    return found


def built(cls: type[PreTrainedModel], config: PretrainedConfig, dtype: LoadDtype) -> PreTrainedModel:
    """The model, on the meta device, in `dtype`.

    Raises:
        Rejected: `cls` cannot be built from this config.
    """
    try:
        with torch.device("meta"), _default_dtype(DTYPES[dtype]), _uninitialized():
            model = cls(config)
            model.tie_weights()
    except Exception as error:  # noqa: BLE001 - inconsistent sizes raise different errors
        raise Rejected(f"{type(error).__name__}: {error}") from None
    return model


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _uninitialized() -> Any:
    """A context without weight initialization. Up to Transformers 4.57 it takes longer than building the model."""
    skip = getattr(transformers.modeling_utils, "no_init_weights", None)
    return skip() if skip else nullcontext()


def quantize(model: PreTrainedModel, quantization: Quantization, dtype: LoadDtype) -> None:
    """Replace linear layers by the stack's own quantizer, and give their weights the storage of quantized weights.

    bitsandbytes packs weights when they are moved to a device, which never happens to meta weights. Here a 4-bit matrix
    of n elements gets ceil(n / 2) bytes, and an 8-bit one n. Biases of replaced layers are created in the default dtype
    and loaded in `dtype`.
    """
    # Transformers 4.38 (4.46 no longer) imports these names only with a GPU, although replacing layers needs none.
    vars(bnb_integration).update(bnb=bnb, nn=nn, torch=torch, Conv1D=Conv1D)
    quantizer = AutoHfQuantizer.from_config(_bnb_config(quantization, DTYPES[dtype]), pre_quantized=False)
    kept_in_fp32 = list(getattr(model, "_keep_in_fp32_modules", None) or ())
    quantizer.preprocess_model(model=model, device_map={"": 0}, keep_in_fp32_modules=kept_in_fp32)
    quantizer.postprocess_model(model)
    for module in model.modules():
        if not isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            continue
        if quantization is Quantization.NF4:
            module.weight.quant_state = _quant_state(module.weight, DTYPES[dtype])
        module.weight.data = _stored(module.weight, quantization)
        if module.bias is not None:
            module.bias.data = module.bias.data.to(DTYPES[dtype])


def _stored(weight: torch.Tensor, quantization: Quantization) -> torch.Tensor:
    if quantization is Quantization.NF4:
        return torch.empty(((weight.numel() + 1) // 2, 1), dtype=torch.uint8, device="meta")
    return torch.empty(weight.shape, dtype=torch.int8, device="meta")


def _quant_state(weight: torch.Tensor, dtype: torch.dtype) -> bnb.functional.QuantState:
    """The quantization state of a 4-bit weight: PEFT needs it to unpack the weight for the magnitudes of DoRA."""
    blocks = -(-weight.numel() // BLOCK)
    return bnb.functional.QuantState(
        absmax=torch.empty(blocks, dtype=torch.float32, device="meta"),
        shape=weight.shape,
        code=torch.empty(CODES, dtype=torch.float32, device="meta"),
        blocksize=BLOCK,
        quant_type="nf4",
        dtype=dtype,
    )


def _bnb_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig:
    if quantization is Quantization.NF4:
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    return BitsAndBytesConfig(load_in_8bit=True)


def mark_loaded(model: PreTrainedModel) -> None:
    """Set `requires_grad` as `from_pretrained` leaves it.

    Replacing a layer freezes its weight and its bias. Transformers 5 creates every parameter again when it loads the
    values, trainable if the dtype is floating-point: biases of quantized layers are then trainable.
    """
    if importlib.util.find_spec("transformers.core_model_loading") is None:
        return
    for parameter in model.parameters():
        if not is_quantized(parameter):
            parameter.requires_grad = parameter.is_floating_point()


def is_quantized(parameter: nn.Parameter) -> bool:
    """Whether `parameter` is stored by bitsandbytes."""
    return type(parameter).__name__ in QUANTIZED
