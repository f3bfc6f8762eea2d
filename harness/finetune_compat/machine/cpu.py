"""What of a CPU changes what a library does. Standard library only: the cell records it, the host predicts it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

from finetune_compat.contract.records import DeviceKind


def name() -> str:
    """The model of the first processor, such as `AMD EPYC`, or the machine's architecture."""
    return _field("model name") or platform.machine()


def features(kind: DeviceKind, *, triton: bool) -> tuple[str, ...]:
    """`DeviceRecord.features` of cells on `kind` in an environment with or without triton."""
    repacks = kind is DeviceKind.CPU and "avx512_bf16" in _field("flags").split()
    return (*(("avx512_bf16",) if repacks else ()), *(() if triton else ("without_triton",)))


@functools.cache
def _field(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty where there is none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
