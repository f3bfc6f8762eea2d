"""Let 4-bit weights on a CPU report an accelerator to TRL, and only to TRL.

TRL detects sharded QLoRA by `param.data.device.type in {"cpu", "meta"}` of the first `Params4bit`, and then skips its
preparation. A plain CPU run therefore does not show trl#3926. While a cell emulates, the class `Params4bit` reports
`cuda` to TRL; PEFT, bitsandbytes and torch see the real device. The class is changed and not single weights, because
PEFT creates new weights when it merges. The observation has `emulates: cuda`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class _Presented:
    """A tensor whose `device` is `cuda`. All other attributes are those of the real tensor."""

    def __init__(self, real: torch.Tensor) -> None:
        self._real = real
        self.device = torch.device("cuda", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextmanager
def presented() -> Iterator[None]:
    """While open, `data` of every 4-bit weight reports an accelerator to TRL's modules."""
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
    """Prevent bitsandbytes from repacking the 4-bit weights of `model` at the first forward in eval mode.

    bitsandbytes repacks them from 0.49 on, on AVX512-BF16 CPUs and on no accelerator.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
