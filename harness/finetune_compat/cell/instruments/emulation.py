"""Let 4-bit weights on a CPU present an accelerator to TRL, and to TRL only.

TRL decides "sharded QLoRA" by `param.data.device.type in {"cpu", "meta"}` of the first `Params4bit`, and then skips its
preparation. On a CPU the flagship bug therefore hides. While a cell emulates, the class of 4-bit weights answers that
question as an accelerator would; PEFT, bitsandbytes and torch see the weights as they are. It is the class that answers
and not single weights, because PEFT makes new ones when it merges. Such an observation says `emulates: cuda`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def presented() -> Iterator[None]:
    """While open, `data` of every 4-bit weight presents an accelerator to code of TRL."""
    import bitsandbytes as bnb

    weights: Any = bnb.nn.Params4bit

    def get(parameter: torch.Tensor) -> Any:
        real = torch.Tensor.data.__get__(parameter)  # type: ignore[attr-defined]
        asking = sys._getframe(1).f_globals.get("__name__", "")
        return _Presented(real) if asking.partition(".")[0] == "trl" else real

    def set_(parameter: torch.Tensor, value: torch.Tensor) -> None:
        torch.Tensor.data.__set__(parameter, value)  # type: ignore[attr-defined]

    weights.data = property(get, set_)
    try:
        yield
    finally:
        del weights.data


def keep_as_on_an_accelerator(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking the 4-bit weights of `model` at the first forward in eval mode.

    It does so from 0.49 on, on AVX512-BF16 CPUs and on no accelerator.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
