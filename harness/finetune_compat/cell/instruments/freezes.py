"""Note the call chain whenever `requires_grad` of a parameter changes from True to False.

`requires_grad` is an attribute of the C base class of all tensors. While watching, `torch.nn.Parameter` has a Python
property (and a `requires_grad_` method) of the same name, which passes every access through and notes the freezes.
Parameters that a library creates are watched too, and no object changes its class.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from finetune_compat.cell.instruments.frames import Chain, here, readable
from finetune_compat.contract.records import Freeze, Stage

_BASE = torch._C.TensorBase  # type: ignore[attr-defined]  # the class that really holds the flag; it has no public name


class FreezeLog:
    """Freezes noted so far, by the identity of the parameter. Holds weak references only."""

    def __init__(self) -> None:
        self.stage = Stage.IMPORT
        self._flips: dict[int, tuple[weakref.ref[nn.Parameter], Stage, Chain]] = {}

    def note(self, parameter: nn.Parameter, wanted: bool) -> None:
        """Note that the caller's caller sets `requires_grad` of `parameter` to `wanted`. True removes the note."""
        if wanted:
            self._flips.pop(id(parameter), None)
        elif _BASE.requires_grad.__get__(parameter):
            # Only for a change: most assignments change nothing, and a call chain takes time.
            self._flips[id(parameter)] = (weakref.ref(parameter), self.stage, here())

    def of(self, subject: dict[str, nn.Parameter]) -> tuple[Freeze, ...]:
        """The noted freezes of the parameters in `subject`, one `Freeze` per stage and call chain."""
        groups: dict[tuple[Stage, Chain], list[nn.Parameter]] = defaultdict(list)
        for parameter in subject.values():
            reference, stage, chain = self._flips.get(id(parameter), (None, self.stage, ()))
            if reference is not None and reference() is parameter:
                groups[stage, chain].append(parameter)
        return tuple(
            Freeze(stage, sum(p.numel() for p in frozen), len(frozen), readable(chain))
            for (stage, chain), frozen in groups.items()
        )


@contextmanager
def watched() -> Iterator[FreezeLog]:
    """While open, watch every `torch.nn.Parameter`."""
    log = FreezeLog()

    def get(parameter: nn.Parameter) -> bool:
        return bool(_BASE.requires_grad.__get__(parameter))

    def set_(parameter: nn.Parameter, wanted: bool) -> None:
        log.note(parameter, wanted)
        _BASE.requires_grad.__set__(parameter, wanted)

    def method(parameter: nn.Parameter, requires_grad: bool = True) -> nn.Parameter:
        log.note(parameter, requires_grad)
        _BASE.requires_grad_(parameter, requires_grad)
        return parameter

    nn.Parameter.requires_grad = property(get, set_)  # type: ignore[assignment,method-assign]
    nn.Parameter.requires_grad_ = method  # type: ignore[assignment,method-assign]
    try:
        yield log
    finally:
        del nn.Parameter.requires_grad, nn.Parameter.requires_grad_
