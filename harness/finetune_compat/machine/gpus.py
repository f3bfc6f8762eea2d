"""Which GPUs cells run on: read them from the driver without torch, choose some, and report the reasons.

CUDA reads `CUDA_VISIBLE_DEVICES` once, when torch first asks for a device. So the host chooses GPUs, and passes their
UUIDs to the cell process. A gigabyte is 2^30 bytes, as in `nvidia-smi` and in product names: a card sold as 40 GB is
not larger than 40 GB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.records import DeviceKind

GB = 2**30

BY_BUS = "PCI_BUS_ID"
"""Value of CUDA_DEVICE_ORDER with which CUDA numbers GPUs as the driver does. By default the fastest GPU is first."""


HIDDEN = "hidden by CUDA_VISIBLE_DEVICES"


class GpuFailed(CompatError):
    """The driver, or every usable GPU, does not answer: an infrastructure failure."""

    exit_code = ExitCode.COULD_NOT_TELL


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance, as the driver reports it."""

    index: int
    """The driver's number of the board, in PCI bus order."""
    part: int | None
    """Number of the MIG instance; None for a whole GPU."""
    uuid: str
    """Its name in CUDA_VISIBLE_DEVICES: `GPU-...` or `MIG-...`."""
    board: str
    """UUID of the board; for a whole GPU equal to `uuid`."""
    name: str
    total: int
    """Bytes of memory."""
    used: int
    """Bytes of memory that are in use by processes or the driver."""
    fault: str = ""
    """The driver's error for this GPU; empty if there is none."""

    @property
    def free(self) -> int:
        """Bytes of memory that are not in use."""
        return self.total - self.used

    def __str__(self) -> str:
        return f"GPU {self.index}" + ("" if self.part is None else f" MIG {self.part}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which GPUs a run asks for, in gigabytes."""

    most: int
    idle_below: float
    larger_than: float

    def idle(self, gpu: Gpu) -> bool:
        """Whether `gpu` uses less memory than `idle_below`."""
        return gpu.used < self.idle_below * GB

    def large(self, gpu: Gpu) -> bool:
        """Whether `gpu` has more memory than `larger_than`."""
        return gpu.total > self.larger_than * GB

    @property
    def makes_sense(self) -> bool:
        """Whether the values are valid: some GPU could meet them."""
        return self.most > 0 and 0 < self.idle_below < math.inf and 0 <= self.larger_than < math.inf


USUAL = Wanted(most=2, idle_below=2.0, larger_than=40.0)
"""The default: idle GPUs with enough memory for QLoRA on a model with eight billion parameters."""


CELL_BYTES = 2_000_000_000
"""Memory of a GPU to reserve for a process with tiny models: CUDA's context and kernels, which take most of it, and
torch's cache. Not yet measured.
"""


def fitting(gpus: Sequence[Gpu]) -> int:
    """Processes with tiny models that fit into the free memory of these GPUs; at least one for each."""
    return sum(max(1, gpu.free // CELL_BYTES) for gpu in gpus)


def as_given(number: int) -> Wanted:
    """Asks for `number` visible GPUs, however busy: they were chosen, and other sessions of the same run use them."""
    return Wanted(most=number, idle_below=float(2**40), larger_than=0.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The GPUs to run on, and the reasons against the others."""

    wanted: Wanted
    chosen: tuple[Gpu, ...]
    idle: bool
    """Whether they are idle and large, as wanted. If false, it is the one GPU with most free memory."""
    rejected: tuple[tuple[Gpu, str], ...]
    """The other GPUs, each with the reason."""


def kind_of(gpus: Sequence[Gpu]) -> DeviceKind:
    """The kind of device of cells that run on these GPUs; without any, the CPU."""
    return DeviceKind.CUDA if gpus else DeviceKind.CPU


def read_gpus() -> tuple[Gpu, ...]:
    """All GPUs of the driver; of a board in MIG mode, its instances. Empty if there is no driver.

    Raises:
        GpuFailed: there is a GPU, but the driver does not answer.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        if _device_files():
            raise _unanswered(error) from None
        return ()
    except pynvml.NVMLError as error:
        raise _unanswered(error) from None
    try:
        return tuple(gpu for index in range(pynvml.nvmlDeviceGetCount()) for gpu in _board(pynvml, index))
    except pynvml.NVMLError as error:
        raise _unanswered(error) from None
    finally:
        pynvml.nvmlShutdown()


def _unanswered(error: Exception) -> GpuFailed:
    return GpuFailed(
        f"NVML: {error}",
        where="the NVIDIA driver",
        meaning="There is a GPU or a driver, but the driver does not answer. Usual causes: the driver was updated "
        "without a restart, or a container lacks the driver's utilities.",
        todo="Run nvidia-smi and read its error, or use --device cpu.",
    )


def _device_files() -> bool:
    return any(path.name.removeprefix("nvidia").isdecimal() for path in Path("/dev").glob("nvidia*"))


def _board(nvml: Any, index: int) -> tuple[Gpu, ...]:
    """The GPU of that number, or its MIG instances. An error of one GPU is recorded in its `fault`."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        if not _in_mig_mode(nvml, handle):
            return (_gpu(nvml, handle, index, None, uuid),)
        parts = enumerate(_mig_handles(nvml, handle))
        return tuple(_gpu(nvml, part, index, number, uuid) for number, part in parts)
    except nvml.NVMLError as error:
        return (Gpu(index, None, "", "", "", 0, 0, f"NVML: {error}"),)


def _gpu(nvml: Any, handle: Any, index: int, part: int | None, board: str) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = nvml.nvmlDeviceGetName(handle), nvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, part, uuid, board, name, int(memory.total), int(memory.used))


def _in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return False  # this GPU, or this driver, does not support MIG
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig_handles(nvml: Any, handle: Any) -> list[Any]:
    """Handles of the board's MIG instances. Their numbers may have gaps."""
    found = []
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
        except nvml.NVMLError_NotFound:
            continue
    return found


def visible(gpus: Sequence[Gpu], names: str | None, order: str | None) -> tuple[Gpu, ...]:
    """Those of `gpus` that are visible to CUDA with CUDA_VISIBLE_DEVICES `names` and CUDA_DEVICE_ORDER `order`.

    As in CUDA, `names` are numbers, UUIDs or unambiguous prefixes of UUIDs. A name without a GPU, for example -1, hides
    itself and all names after it. None: all GPUs are visible.

    Raises:
        CompatError: a number is ambiguous.
    """
    if names is None:
        return tuple(gpus)
    seen: dict[Gpu, None] = {}
    for name in (part.strip() for part in names.split(",")):
        if name.isdecimal() and order != BY_BUS and not _alike(gpus):
            raise CompatError(
                f"CUDA_VISIBLE_DEVICES={names}, and these GPUs are not all alike",
                where="the environment",
                meaning="CUDA then numbers the fastest first, and the driver by PCI bus: a number may mean either.",
                todo=f"Set CUDA_DEVICE_ORDER={BY_BUS}, and number them as nvidia-smi does, or name them by UUID.",
            )
        named = _named(name, gpus)
        if not named:
            break
        seen.update(dict.fromkeys(named))
    return tuple(seen)


def _alike(gpus: Sequence[Gpu]) -> bool:
    # The name of a MIG instance begins with that of its board: "... MIG 1g.5gb".
    return len({gpu.name.partition(" MIG ")[0] for gpu in gpus if not gpu.fault}) <= 1


def _named(name: str, gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """The GPUs that one entry of CUDA_VISIBLE_DEVICES names; for a board in MIG mode, all its instances."""
    if name.isdecimal():
        return tuple(gpu for gpu in gpus if gpu.index == int(name))
    if name.startswith("MIG-"):
        found = [gpu for gpu in gpus if gpu.part is not None and gpu.uuid.startswith(name)]
        return tuple(found) if len(found) == 1 else ()
    boards = {gpu.board for gpu in gpus if name.startswith("GPU-") and gpu.board.startswith(name)}
    return tuple(gpu for gpu in gpus if gpu.board in boards) if len(boards) == 1 else ()


def choose(gpus: Sequence[Gpu], candidates: Sequence[Gpu], wanted: Wanted) -> Choice:
    """Up to `wanted.most` idle and large GPUs of `candidates`, in their order; else the one with most free memory.

    Args:
        gpus: all GPUs, for the reasons against the others.
        candidates: the visible GPUs; not empty.
        wanted: how many GPUs, and the limits for idle and large.

    Raises:
        GpuFailed: none of the candidates answers.
    """
    usable = [gpu for gpu in candidates if not gpu.fault]
    if not usable:
        raise GpuFailed(
            "; ".join(f"{gpu}: {gpu.fault}" for gpu in candidates),
            where="the NVIDIA driver",
            meaning="No visible GPU answers.",
            todo="Run nvidia-smi and read its error, or use --device cpu.",
        )
    fitting = [gpu for gpu in usable if wanted.idle(gpu) and wanted.large(gpu)]
    chosen = fitting[: wanted.most] or [max(usable, key=lambda gpu: gpu.free)]
    rest = [gpu for gpu in gpus if gpu not in chosen]
    rejected = tuple((gpu, _why_not(gpu, wanted) if gpu in candidates else HIDDEN) for gpu in rest)
    return Choice(wanted, tuple(chosen), bool(fitting), rejected)


def _why_not(gpu: Gpu, wanted: Wanted) -> str:
    if gpu.fault:
        return gpu.fault
    reasons = [] if wanted.idle(gpu) else [f"{_gb(gpu.used)} used"]
    reasons += [] if wanted.large(gpu) else [f"{_gb(gpu.total)} in all"]
    return ", ".join(reasons) or f"not needed, {wanted.most} of them are enough"


def lines_of(choice: Choice) -> tuple[str, ...]:
    """The choice and its reasons, formatted: one line on the chosen GPUs, and one on the others if there are any."""
    wanted, there = choice.wanted, len(choice.chosen) + len(choice.rejected)
    limits = f"under {wanted.idle_below:g} GB used, over {wanted.larger_than:g} GB in all"
    names = ", ".join(f"{gpu} ({gpu.name})" for gpu in choice.chosen)
    if choice.idle:
        first = f"{names} of {there}: idle and large enough ({limits})"
    else:
        first = f"{names} of {there}: none is idle and large enough ({limits}), and it has most memory free, "
        first += _gb(choice.chosen[0].free)
    others = "; ".join(f"{gpu}: {why}" for gpu, why in choice.rejected)
    return (first, f"not {others}") if others else (first,)


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
