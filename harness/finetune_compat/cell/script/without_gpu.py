"""Run a script that asks for a GPU on a machine without one, and note every change that this needs.

Only moves of models and tensors to a GPU, and options that need one, are changed. `torch.cuda.is_available()` is still
False, and `torch.tensor(..., device="cuda")` still raises. `emulation` also lets 4-bit weights report an accelerator to
TRL.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from finetune_compat.cell.script.notes import Notes

_GPU_OPTIMIZERS = ("paged", "8bit", "bnb", "apex", "ademamix")
"""Parts of the names of optimizers that have no CPU implementation, or not in every release."""


def place_on_cpu(torch: ModuleType, notes: Notes) -> None:
    """Change `.to("cuda")` and `.cuda()` of modules and tensors so that they stay on the CPU."""
    for cls in (torch.nn.Module, torch.Tensor):
        cls.to = _elsewhere(cls.to, f"{cls.__name__}.to", notes)
        cls.cuda = _stays(f"{cls.__name__}.cuda", notes)


def _elsewhere(original: Callable[..., Any], name: str, notes: Notes) -> Callable[..., Any]:
    @functools.wraps(original)
    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        if any(_is_gpu(value) for value in (*args, kwargs.get("device"))):
            notes.change(f"{name} with a GPU left it on the CPU: this machine has no GPU")
            args = tuple("cpu" if _is_gpu(value) else value for value in args)
            kwargs = {key: "cpu" if _is_gpu(value) else value for key, value in kwargs.items()}
        return original(self, *args, **kwargs)

    return to


def _stays(name: str, notes: Notes) -> Callable[..., Any]:
    def cuda(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes.change(f"{name}() left it on the CPU: this machine has no GPU")
        return self

    return cuda


def _is_gpu(value: Any) -> bool:
    place = value if isinstance(value, str) else getattr(value, "type", None)  # of a torch.device
    return isinstance(place, str) and place.partition(":")[0] == "cuda"


def load_options(options: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """`options` of `from_pretrained`, with those that need a GPU replaced."""
    changed = dict(options)
    if _maps_to_gpu(options.get("device_map")):
        notes.change(f"device_map={options['device_map']!r} was taken as 'cpu': this machine has no GPU")
        changed["device_map"] = {"": "cpu"}
    attention = options.get("attn_implementation")
    if isinstance(attention, str) and "flash" in attention:
        notes.change(f"attn_implementation={attention!r} was taken as 'sdpa': flash attention needs a GPU")
        changed["attn_implementation"] = "sdpa"
    quantized = options.get("quantization_config")
    if getattr(quantized, "bnb_4bit_use_double_quant", False):
        # bitsandbytes 0.47 ends the process over compressed statistics on a CPU.
        notes.change("bnb_4bit_use_double_quant=True was taken as False: bitsandbytes 0.47 crashes with it on a CPU")
        changed["quantization_config"] = copy.copy(quantized)
        changed["quantization_config"].bnb_4bit_use_double_quant = False
    return changed


def _maps_to_gpu(device_map: Any) -> bool:
    if isinstance(device_map, dict):
        return any(_maps_to_gpu(place) for place in device_map.values())
    # Names like "auto" choose among the devices that exist.
    return _is_gpu(device_map) or (isinstance(device_map, int) and not isinstance(device_map, bool))


def training_arguments(arguments: Any, notes: Notes) -> None:
    """Change fields of a `TrainingArguments` that raise on a CPU. Call before its `__post_init__`, which checks them.

    By then TRL's configurations have set bf16, if the script sets neither bf16 nor fp16.
    """
    for name in ("fp16", "fp16_full_eval"):
        if getattr(arguments, name, False):
            notes.change(f"{name}=True was taken as False: float16 training needs a GPU")
            setattr(arguments, name, False)
    # Older releases of Transformers accept bf16 without a GPU and without use_cpu. Both sides of a gate must compute
    # the same.
    if not (getattr(arguments, "use_cpu", False) or getattr(arguments, "no_cuda", False)):
        for name in ("bf16", "bf16_full_eval"):
            if getattr(arguments, name, False):
                notes.change(f"{name}=True was taken as False: bfloat16 training needs a GPU, or use_cpu=True")
                setattr(arguments, name, False)
    if getattr(arguments, "tf32", None):
        notes.change("tf32=True was left out: it needs a GPU")
        arguments.tf32 = None
    optimizer = str(getattr(getattr(arguments, "optim", ""), "value", getattr(arguments, "optim", "")))
    if any(part in optimizer for part in _GPU_OPTIMIZERS):
        notes.change(f"optim={optimizer!r} was taken as 'adamw_torch': that optimizer needs a GPU")
        arguments.optim = "adamw_torch"
