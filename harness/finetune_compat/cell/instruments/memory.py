"""Measure the memory of tensors: before a flow, at its peak, and after the flow is released.

On a GPU torch's allocator counts it. On a CPU no allocator does, so the tensors are found among the objects that the
garbage collector tracks. These include every tensor that Python code can reach, except objects set aside by
`gc.freeze`.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from finetune_compat.contract.records import DeviceKind, Memory


class MemoryLog:
    """The memory of one flow, in bytes. Holds no reference to a tensor."""

    def __init__(self, device: DeviceKind) -> None:
        self._on_gpu = device is DeviceKind.CUDA
        self._start: int | None = None
        self._peak = 0

    def begin(self) -> None:
        """Note the live bytes before the flow begins."""
        self._start = self._peak = self._settled()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def look(self) -> None:
        """Update the peak with the live bytes. On a GPU the allocator records its peak itself."""
        if not self._on_gpu:
            self._peak = max(self._peak, live_bytes())

    @contextmanager
    def looking_at_the_first_step(self) -> Iterator[None]:
        """While open, update the peak after the first optimizer step, when optimizer state and gradients both exist.

        Later steps hold as much. Memory that grows with every step still exists at the census after training.
        """
        once = functools.cache(self.look)
        handle = register_optimizer_step_post_hook(lambda *_: once())
        try:
            yield
        finally:
            handle.remove()

    def end(self) -> Memory | None:
        """The measurement; None if the flow never began. Call it after the flow and its recorder are released."""
        if self._start is None:
            return None
        peak = torch.cuda.max_memory_allocated() if self._on_gpu else self._peak
        return Memory(self._start, self._settled(), peak)

    def _settled(self) -> int:
        """Live bytes after a garbage collection."""
        gc.collect()
        if not self._on_gpu:
            return live_bytes()
        # cuBLAS allocates a workspace with its first product and never frees it: it does not count for a flow.
        torch._C._cuda_clearCublasWorkspaces()
        return torch.cuda.memory_allocated()


def live_bytes() -> int:
    """Bytes in distinct CPU storages of all tensors that the garbage collector tracks, and of their gradients."""
    held: dict[int, int] = {}
    # Without the overrides of tensor subclasses, for example those of quantized weights.
    with torch._C.DisableTorchFunctionSubclass():
        for found in _tensors():
            _note(found, held)
            # A gradient has no Python object until it is accessed. Only leaves store their gradients.
            if found.is_leaf and found.grad is not None:
                _note(found.grad, held)
    return sum(held.values())


def _tensors() -> list[torch.Tensor]:
    """All tracked tensors. Classes are compared first: there are about a hundred, for ten thousand objects."""
    objects = gc.get_objects()
    # type() and not isinstance(), which accesses `__class__` of proxies: lazy modules would import.
    classes = {kind for kind in set(map(type, objects)) if issubclass(kind, torch.Tensor)}
    return [found for found in objects if type(found) in classes]


def _note(tensor: torch.Tensor, held: dict[int, int]) -> None:
    """Add the storage of `tensor` to `held`, by its address: views, and weights under several names, share one."""
    try:
        storage = tensor.untyped_storage()
        if storage.device.type == "cpu":
            held[storage.data_ptr()] = storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return  # sparse tensors and wrappers have no storage
