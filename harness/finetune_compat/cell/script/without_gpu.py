"""Run a script that asks for a GPU on a machine without one, and note every change that this needs.

What a script asks of a GPU is done on the CPU, or answered. `torch.cuda.is_available()` is still False, because
libraries decide by it. `emulation` also lets 4-bit weights report an accelerator to TRL.
"""

from __future__ import annotations

import copy
import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

from finetune_compat.cell.script.notes import Notes

_GPU_OPTIMIZERS = ("paged", "8bit", "bnb", "apex", "ademamix")
"""Parts of the names of optimizers that have no CPU implementation, or not in every release."""


_FACTORIES = (
    "arange",
    "as_tensor",
    "empty",
    "eye",
    "full",
    "linspace",
    "ones",
    "rand",
    "randint",
    "randn",
    "randperm",
    "tensor",
    "zeros",
)
"""Functions of torch that scripts call with a device."""

_NEED_A_GPU = ("activation_offloading", "use_liger_kernel", "use_liger_loss", "use_vllm")
"""Flags of training arguments that need a GPU: a stream beside the computation, Triton kernels, and vLLM."""

_NO_GPU = "this machine has no GPU"


def place_on_cpu(torch: ModuleType, notes: Notes) -> None:
    """Do on the CPU what a script asks torch to do on a GPU, and answer what it asks about a GPU."""
    for cls in (torch.nn.Module, torch.Tensor):
        cls.to = _elsewhere(cls.to, f"{cls.__name__}.to", notes)
        cls.cuda = _stays(f"{cls.__name__}.cuda", notes)
    torch.Tensor.pin_memory = _stays("Tensor.pin_memory", notes)  # type: ignore[attr-defined]
    _make_on_cpu(torch, notes)
    torch.load = _with_cpu(torch.load, "torch.load", "map_location", notes)  # type: ignore[attr-defined]
    torch.set_default_device = _with_cpu(  # type: ignore[attr-defined]
        torch.set_default_device, "torch.set_default_device", "device", notes
    )
    for name, answer in _answers().items():
        setattr(torch.cuda, name, _answer(name, answer, notes))


def _make_on_cpu(torch: ModuleType, notes: Notes) -> None:
    # torch finds its own functions in these sets inside `with torch.device("meta")`, and when it compiles a function.
    devices = importlib.import_module("torch.utils._device")
    devices._device_constructors()
    context = devices.DeviceContext
    context.__init__ = _with_cpu(context.__init__, "a block in torch.device", "device", notes)
    builtins = importlib.import_module("torch.jit._builtins")
    for name in _FACTORIES:
        wrapped = _with_cpu(getattr(torch, name), f"torch.{name}", "device", notes)
        builtins._register_builtin(wrapped, f"aten::{name}")
        setattr(torch, name, wrapped)


def _with_cpu(original: Callable[..., Any], name: str, option: str, notes: Notes) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _is_gpu(kwargs.get(option)):
            notes.change(f"{name}({option}={str(kwargs[option])!r}) used the CPU: {_NO_GPU}")
            kwargs[option] = "cpu"
        elif args and any(_is_gpu(value) for value in args):
            notes.change(f"{name} with a GPU used the CPU: {_NO_GPU}")
            args = tuple("cpu" if _is_gpu(value) else value for value in args)
        return original(*args, **kwargs)

    return call


def _answers() -> dict[str, Any]:
    """What functions of `torch.cuda` return that raise without a GPU.

    The capability is that of an A100, so that a script takes the branch that it takes on a GPU of today.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    properties = SimpleNamespace(
        name="no GPU", major=8, minor=0, total_memory=memory, multi_processor_count=1, is_integrated=0, warp_size=32
    )
    return {
        "current_device": 0,
        "get_device_capability": (properties.major, properties.minor),
        "get_device_name": properties.name,
        "get_device_properties": properties,
        "ipc_collect": None,
        "mem_get_info": (memory, memory),
        "memory_summary": "",
        "reset_max_memory_allocated": None,
        "reset_peak_memory_stats": None,
        "set_device": None,
        "synchronize": None,
    }


def _answer(name: str, answer: Any, notes: Notes) -> Callable[..., Any]:
    def instead(*args: Any, **kwargs: Any) -> Any:
        told = "did nothing" if answer is None else f"returned {_told(answer)}"
        notes.change(f"torch.cuda.{name}() {told}: {_NO_GPU}")
        return answer

    return instead


def _told(answer: Any) -> str:
    return "those of the machine, as capability 8.0" if isinstance(answer, SimpleNamespace) else repr(answer)


def _elsewhere(original: Callable[..., Any], name: str, notes: Notes) -> Callable[..., Any]:
    @functools.wraps(original)
    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        if any(_is_gpu(value) or _is_index(value) for value in (*args, kwargs.get("device"))):
            notes.change(f"{name} with a GPU left it on the CPU: {_NO_GPU}")
            args = tuple("cpu" if _is_gpu(value) or _is_index(value) else value for value in args)
            kwargs = {key: "cpu" if _is_gpu(value) or _is_index(value) else value for key, value in kwargs.items()}
        return original(self, *args, **kwargs)

    return to


def _stays(name: str, notes: Notes) -> Callable[..., Any]:
    def cuda(self: Any, *args: Any, **kwargs: Any) -> Any:
        notes.change(f"{name}() left it on the CPU: {_NO_GPU}")
        return self

    return cuda


def _is_gpu(value: Any) -> bool:
    place = value if isinstance(value, str) else getattr(value, "type", None)  # of a torch.device
    return isinstance(place, str) and place.partition(":")[0] == "cuda"


def _is_index(value: Any) -> bool:
    """Whether `value` is the number of a GPU, as in `.to(0)`."""
    return isinstance(value, int) and not isinstance(value, bool)


def load_options(options: dict[str, Any], notes: Notes) -> dict[str, Any]:
    """`options` of `from_pretrained`, with those that need a GPU replaced."""
    changed = dict(options)
    if _maps_to_gpu(options.get("device_map")):
        notes.change(f"device_map={options['device_map']!r} was taken as 'cpu': {_NO_GPU}")
        changed["device_map"] = {"": "cpu"}
    attention = options.get("attn_implementation")
    if isinstance(attention, str) and "flash" in attention:
        notes.change(f"attn_implementation={attention!r} was taken as 'sdpa': flash attention needs a GPU")
        changed["attn_implementation"] = "sdpa"
    if changed.pop("use_flash_attention_2", False):
        notes.change("use_flash_attention_2=True was left out: flash attention needs a GPU")
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
    return _is_gpu(device_map) or _is_index(device_map)


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
    for name in _NEED_A_GPU:
        if getattr(arguments, name, False) is True:
            notes.change(f"{name}=True was taken as False: it needs a GPU")
            setattr(arguments, name, False)
    if getattr(arguments, "tf32", None):
        notes.change("tf32=True was left out: it needs a GPU")
        arguments.tf32 = None
    optimizer = str(getattr(getattr(arguments, "optim", ""), "value", getattr(arguments, "optim", "")))
    if any(part in optimizer for part in _GPU_OPTIMIZERS):
        notes.change(f"optim={optimizer!r} was taken as 'adamw_torch': that optimizer needs a GPU")
        arguments.optim = "adamw_torch"
