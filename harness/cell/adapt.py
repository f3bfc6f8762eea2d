"""The only place that knows how API names differ between versions.

Options are given by their newest name and passed under the first name the installed class has. An option that no name
of it accepts is noted in `Setup.dropped`, never lost silently. Windows: TRL 0.9.2 brought `SFTConfig`, 0.12.0
`processing_class`, 0.16.0 `max_length`; Transformers 4.34 `use_cpu`, 4.41 `eval_strategy`, 4.56 `dtype`.
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
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, DataCollatorForLanguageModeling, PreTrainedModel

from harness.catalog import BATCH_ROWS, ROW_WORDS
from harness.cell import data
from harness.cell.instruments.emulation import keep_as_on_an_accelerator
from harness.cell.setup import Setup
from harness.records import DeviceKind

_OLDER_NAMES = {
    "max_length": ("max_seq_length",),
    "processing_class": ("tokenizer",),
    "eval_strategy": ("evaluation_strategy",),
    "use_cpu": ("no_cuda",),
}


def load_model(setup: Setup) -> PreTrainedModel:
    """The saved base model as a user loads it, quantized as the variant says."""
    options: dict[str, Any] = {_dtype_name(): torch.float32, "device_map": {"": _place(setup)}}
    if setup.quantized:
        options["quantization_config"] = _quantization(setup)
    model = AutoModelForCausalLM.from_pretrained(setup.model_dir, **options)
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
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    return BitsAndBytesConfig(load_in_8bit=True)


def lora_config(setup: Setup) -> LoraConfig:
    """The LoRA configuration of the catalog."""
    return LoraConfig(
        r=setup.lora.r,
        lora_alpha=setup.lora.alpha,
        lora_dropout=setup.lora.dropout,
        target_modules=list(setup.lora.target_modules),
        task_type="CAUSAL_LM",
    )


def pretend_trained(model: nn.Module, seed: int) -> None:
    """Give `lora_B`, which starts at zero, values an earlier run might have left: an adapter that can be recognised
    again.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data.copy_(noise)


def sft_arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `SFTTrainer`, beside the model: configuration, data, tokenizer."""
    import trl

    train, held_out = data.text_rows(setup.seed)
    rest = {"train_dataset": train, "eval_dataset": held_out, "processing_class": data.tokenizer()}
    text = {"dataset_text_field": "text", "max_length": 2 * ROW_WORDS, "packing": False, "loss_type": "nll"}
    options = {**_training_options(setup), **text}
    takes = _parameters(trl.SFTTrainer.__init__)
    if hasattr(trl, "SFTConfig"):
        return {"args": _configured(trl.SFTConfig, options, setup), **_named(takes, rest, setup)}
    given = {name: options.pop(name) for name in text}
    arguments = _configured(transformers.TrainingArguments, options, setup)
    return {"args": arguments, **_named(takes, {**rest, **given}, setup)}


def trainer_arguments(setup: Setup) -> dict[str, Any]:
    """Keyword arguments for `transformers.Trainer`, beside the model."""
    train, held_out = data.token_rows(setup.seed)
    # A PeftModel hides its base model's arguments, so Trainer cannot infer which column holds the labels.
    options = {**_training_options(setup), "label_names": ["labels"]}
    return {
        "args": _configured(transformers.TrainingArguments, options, setup),
        "train_dataset": train,
        "eval_dataset": held_out,
        "data_collator": DataCollatorForLanguageModeling(data.tokenizer(), mlm=False),
    }


def _training_options(setup: Setup) -> dict[str, Any]:
    """Every option a cell depends on, given explicitly: defaults changed between versions."""
    return {
        "output_dir": str(setup.scratch / "trainer"),
        "max_steps": setup.steps,
        "per_device_train_batch_size": BATCH_ROWS,
        "per_device_eval_batch_size": BATCH_ROWS,
        "gradient_accumulation_steps": 1,
        "learning_rate": setup.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "optim": "adamw_torch",
        "gradient_checkpointing": setup.gradient_checkpointing,
        "use_cpu": setup.device is DeviceKind.CPU,
        "bf16": False,
        "fp16": False,
        "logging_steps": 1,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": setup.seed,
    }


def learning_rates(setup: Setup) -> tuple[float, ...]:
    """The learning rate of each step under the linear schedule without warm-up that `_training_options` asks for."""
    return tuple(setup.learning_rate * (setup.steps - step) / setup.steps for step in range(setup.steps))


def _configured(config: type[Any], options: dict[str, Any], setup: Setup) -> Any:
    fields = {field.name for field in dataclasses.fields(config) if field.init}
    return config(**_named(fields, options, setup))


def _parameters(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters)


def _named(accepted: Iterable[str], options: dict[str, Any], setup: Setup) -> dict[str, Any]:
    names = set(accepted)
    chosen = {}
    for option, value in options.items():
        name = next((n for n in (option, *_OLDER_NAMES.get(option, ())) if n in names), None)
        if name is None:
            setup.dropped.append(option)
        else:
            chosen[name] = value
    return chosen
