"""API names that differ between versions, for all flows: models, adapters, and training options. Differences of one
objective are in its module in `finetune_compat.cell.objectives`.

Flows give options by their newest name. Each is passed under the first name that the installed class has. If the class
has none, the option is noted in `Setup.dropped`. Windows: TRL 0.12.0 brought `processing_class`, 0.16.0 `max_length` of
SFT; Transformers 4.34 `use_cpu`, 4.41 `eval_strategy`, 4.56 `dtype`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
import transformers
from peft import LoraConfig
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from finetune_compat.cell.instruments.emulation import keep_as_on_an_accelerator
from finetune_compat.cell.setup import ADAMW, Setup
from finetune_compat.contract.catalog import BATCH_ROWS
from finetune_compat.contract.records import ALL_LINEAR, DeviceKind, LoraShape

_OLDER_NAMES = {
    "max_length": ("max_seq_length",),
    "processing_class": ("tokenizer",),
    "eval_strategy": ("evaluation_strategy",),
    "use_cpu": ("no_cuda",),
}


def load_model(setup: Setup) -> PreTrainedModel:
    """The base model, loaded as users load it, in the precision of the variant."""
    options: dict[str, Any] = {
        _dtype_name(): setup.model.dtype,
        "device_map": {"": _place(setup)},
        "attn_implementation": setup.attention,
    }
    if setup.quantized:
        options["quantization_config"] = _quantization(setup)
    model = setup.model.loader.from_pretrained(setup.model.place, **options)
    if setup.emulates is not None:
        keep_as_on_an_accelerator(model)
    return model


def _place(setup: Setup) -> str | int:
    return 0 if setup.device is DeviceKind.CUDA else "cpu"


def _dtype_name() -> str:
    major, minor = (int(part) for part in transformers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (4, 56) else "torch_dtype"


def _quantization(setup: Setup) -> BitsAndBytesConfig:
    if setup.variant.precision.four_bit:
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=setup.model.dtype
        )
    return BitsAndBytesConfig(load_in_8bit=True)


def lora_config(setup: Setup) -> LoraConfig:
    """The LoRA configuration that the catalog gives the cell."""
    return LoraConfig(**lora_options(setup.lora))


def lora_options(lora: LoraShape) -> dict[str, Any]:
    """`lora` as keyword arguments of PEFT's `LoraConfig`."""
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": _targets(lora),
        "task_type": "CAUSAL_LM",
    }


def _targets(lora: LoraShape) -> list[str] | str:
    """`all-linear`, module names, or a pattern that excludes the vision encoder under the path of any version."""
    if lora.target_modules == (ALL_LINEAR,):
        return ALL_LINEAR
    if not lora.language_only:
        return list(lora.target_modules)
    return rf"(?!.*\bvisual\b).*\.({'|'.join(lora.target_modules)})"


def pretend_trained(model: nn.Module, seed: int) -> None:
    """Set `lora_B`, which starts at zero, to small random values, as after training. The adapter is then recognisable
    by its values.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data.copy_(noise)


def training_options(setup: Setup) -> dict[str, Any]:
    """Every training option that a cell depends on. All are explicit, because defaults differ between versions."""
    return {
        "output_dir": str(setup.scratch / "trainer"),
        "max_steps": setup.steps,
        "per_device_train_batch_size": setup.rows,
        "per_device_eval_batch_size": BATCH_ROWS,
        "gradient_accumulation_steps": setup.accumulation,
        "learning_rate": setup.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "optim": "adamw_torch",
        "adam_beta1": ADAMW.beta1,
        "adam_beta2": ADAMW.beta2,
        "adam_epsilon": ADAMW.epsilon,
        "weight_decay": ADAMW.weight_decay,
        "max_grad_norm": ADAMW.max_grad_norm,
        "gradient_checkpointing": setup.gradient_checkpointing,
        "use_cpu": setup.device is DeviceKind.CPU,
        "bf16": setup.variant.precision.bf16,
        "fp16": False,
        "logging_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": setup.seed,
        # The collator for pictures reads columns that the forward does not take.
        "remove_unused_columns": setup.model.vision is None,
    }


def learning_rates(setup: Setup) -> tuple[float, ...]:
    """The learning rate of each step, by the linear schedule without warm-up of `training_options`."""
    return tuple(setup.learning_rate * (setup.steps - step) / setup.steps for step in range(setup.steps))


def configured(config: type[Any], options: dict[str, Any], setup: Setup) -> Any:
    """A `config` with those of `options` that it has, under its own names for them."""
    fields = {field.name for field in dataclasses.fields(config) if field.init}
    return config(**named(fields, options, setup))


def parameters(function: Callable[..., Any]) -> set[str]:
    """Names of the parameters of `function`."""
    return set(inspect.signature(function).parameters)


def named(accepted: Iterable[str], options: dict[str, Any], setup: Setup) -> dict[str, Any]:
    """`options` under the first of their names that is in `accepted`. Others are noted in `setup.dropped`."""
    names = set(accepted)
    chosen = {}
    for option, value in options.items():
        name = next((n for n in (option, *_OLDER_NAMES.get(option, ())) if n in names), None)
        if name is None:
            setup.dropped.append(option)
        else:
            chosen[name] = value
    return chosen
