"""Let 4-bit weights on a CPU present an accelerator to TRL, and to TRL only.

TRL decides "sharded QLoRA" by `param.data.device.type in {"cpu", "meta"}` of the first `Params4bit`, and then
skips its preparation. On a CPU the flagship bug therefore hides. A subclass of the same name answers that question as
an accelerator would; PEFT, bitsandbytes and torch see the weights as they are. Such an observation says `emulates:
cuda`.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch
from torch import nn


class _Presented:
    """A tensor that says it is on `cuda`; everything else is the tensor's own."""

    def __init__(self, real: torch.Tensor) -> None:
        self._real = real
        self.device = torch.device("cuda", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@functools.cache
def _presenting_class() -> type:
    import bitsandbytes as bnb

    plain: Any = bnb.nn.Params4bit

    def get(parameter: torch.Tensor) -> Any:
        real = torch.Tensor.data.__get__(parameter)  # type: ignore[attr-defined]
        asking = sys._getframe(1).f_globals.get("__name__", "")
        return _Presented(real) if asking.partition(".")[0] == "trl" else real

    def set_(parameter: torch.Tensor, value: torch.Tensor) -> None:
        torch.Tensor.data.__set__(parameter, value)  # type: ignore[attr-defined]

    # Libraries recognise 4-bit weights by the class's name.
    return type("Params4bit", (plain,), {"data": property(get, set_), "__module__": plain.__module__})


def present_accelerator(model: nn.Module) -> None:
    """Make the 4-bit weights of `model` present an accelerator to TRL, and keep them as an accelerator would.

    bitsandbytes 0.50 repacks 4-bit weights at the first forward without gradients on AVX512-BF16 CPUs; no accelerator
    does.
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight.__class__.__name__ == "Params4bit":
            weight.__class__ = _presenting_class()
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
