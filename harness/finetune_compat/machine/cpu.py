"""CPU features that change what a library does. Standard library only: cells record them, the host predicts them."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from finetune_compat.contract.records import DeviceKind


def name() -> str:
    """The model name of the first processor, for example `AMD EPYC`; without one, the machine's architecture."""
    return _field("model name") or platform.machine()


def features(kind: DeviceKind, *, triton: bool) -> tuple[str, ...]:
    """The `DeviceRecord.features` of cells on `kind`, in an environment with or without triton."""
    repacks = kind is DeviceKind.CPU and "avx512_bf16" in _field("flags").split()
    return (*(("avx512_bf16",) if repacks else ()), *(() if triton else ("without_triton",)))


@functools.cache
def _field(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty if the file or the field is missing."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
