"""How much memory tensors hold: before a flow, at its highest, and when nothing of it should be left.

On a GPU torch's allocator knows. On a CPU nobody does, so the tensors are looked for among the objects the garbage
collector tracks, which every tensor is that Python code can reach. Those set aside by `gc.freeze` are not among them.
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
    """The memory of one flow. Holds no tensor alive."""

    def __init__(self, device: DeviceKind) -> None:
        self._on_gpu = device is DeviceKind.CUDA
        self._start: int | None = None
        self._peak = 0

    def begin(self) -> None:
        """Note what is alive before the flow does anything."""
        self._start = self._peak = self._settled()
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def look(self) -> None:
        """Note what is alive now. A GPU's allocator keeps its peak itself."""
        if not self._on_gpu:
            self._peak = max(self._peak, live_bytes())

    @contextmanager
    def looking_at_the_first_step(self) -> Iterator[None]:
        """While open, look after the first step of any optimizer: its state is there, and the gradients still are.

        Later steps hold as much. Whatever grows with every step is still there at the census after training.
        """
        once = functools.cache(self.look)
        handle = register_optimizer_step_post_hook(lambda *_: once())
        try:
            yield
        finally:
            handle.remove()

    def end(self) -> Memory | None:
        """What there was; to be called when the flow and its recorder are gone. None if the flow never began."""
        if self._start is None:
            return None
        peak = torch.cuda.max_memory_allocated() if self._on_gpu else self._peak
        return Memory(self._start, self._settled(), peak)

    def _settled(self) -> int:
        """Bytes alive once garbage is collected."""
        gc.collect()
        if not self._on_gpu:
            return live_bytes()
        # Scratch space that cuBLAS takes from the allocator with its first product and keeps: it belongs to no flow.
        torch._C._cuda_clearCublasWorkspaces()
        return torch.cuda.memory_allocated()


def live_bytes() -> int:
    """Bytes in distinct CPU storages of all tensors that the garbage collector tracks, and of their gradients."""
    held: dict[int, int] = {}
    # Subclasses, such as those of quantized weights, are asked as the tensors they are.
    with torch._C.DisableTorchFunctionSubclass():
        for found in _tensors():
            _note(found, held)
            # A gradient nobody asked for has no Python object of its own. Other tensors' gradients are not kept.
            if found.is_leaf and found.grad is not None:
                _note(found.grad, held)
    return sum(held.values())


def _tensors() -> list[torch.Tensor]:
    """All that are tracked. Classes are looked at first: they are a hundred, and the objects ten thousand."""
    objects = gc.get_objects()
    # type(), because isinstance() would ask proxies for their class, and lazy modules would import.
    classes = {kind for kind in set(map(type, objects)) if issubclass(kind, torch.Tensor)}
    return [found for found in objects if type(found) in classes]


def _note(tensor: torch.Tensor, held: dict[int, int]) -> None:
    """Add the storage of `tensor` to `held`, by its address: views, and weights under several names, share one."""
    try:
        storage = tensor.untyped_storage()
        if storage.device.type == "cpu":
            held[storage.data_ptr()] = storage.nbytes()
    except (NotImplementedError, RuntimeError):
        return  # sparse tensors and wrappers have no storage of their own
