"""GPUs for the tests of what chooses them."""

from __future__ import annotations

import pytest
from finetune_compat.machine.gpus import GB, Gpu
from finetune_compat.run import stack_run


def gpu(index: int) -> Gpu:
    """Return an idle GPU with 80 GB."""
    return Gpu(index, None, f"GPU-{index}f", f"GPU-{index}f", "NVIDIA H100", 80 * GB, 0)


def machine_with(monkeypatch: pytest.MonkeyPatch, number: int, visible: str | None = None) -> tuple[Gpu, ...]:
    """Give the machine `number` idle GPUs, set CUDA_VISIBLE_DEVICES to `visible`, and return the GPUs."""
    found = tuple(gpu(index) for index in range(number))
    monkeypatch.setattr(stack_run, "read_gpus", lambda: found)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    return found
