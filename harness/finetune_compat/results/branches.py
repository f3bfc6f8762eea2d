"""Committed records of device-dependent branches: read them, and count the sides that no cell took. Host side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.contract.branches import Accelerator, BranchTrace, Guard
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.machine.places import places
from finetune_compat.machine.record_files import read_record

_TRACE = TypeAdapter(BranchTrace)


@dataclass(frozen=True, slots=True)
class Uncovered:
    """The branches of a stack that a CUDA GPU may take, and that no cell took on this device. A branch is one side of a
    guard.
    """

    branches: int
    """All sides of its guards."""
    untaken: int
    """Sides that no cell took."""
    emulated: int
    """Sides that only cells with an emulated accelerator took."""


def file_of(stack: str, device: DeviceKind) -> str:
    """Name of the record's file."""
    return f"{stack}{'' if device is DeviceKind.CPU else f'-{device}'}.json"


def read_trace(path: Path) -> BranchTrace:
    """The record in `path`.

    Raises:
        RecordsError: it is not a record.
    """
    todo = "Remove it, and run that stack again with --branches."
    return read_record(_TRACE, path, name="a record of device-dependent branches", todo=todo)


def trace_of(seen: Observation) -> BranchTrace | None:
    """The committed record of the stack and kind of device of `seen`; None if there is none of the same lock."""
    if places().checkout is None:
        return None
    path = places().branches / file_of(seen.stack.name, seen.device.kind)
    if not path.exists():
        return None
    found = read_trace(path)
    return found if found.lock_sha256 == seen.stack.lock_sha256 else None


def uncovered(trace: BranchTrace) -> Uncovered:
    """The count of the branches of `trace`."""
    guards = cuda_guards(trace)
    sides = [guard.took(side) for guard in guards for side in (True, False)]
    return Uncovered(
        branches=len(sides),
        untaken=sum(not cells for cells in sides),
        emulated=sum(bool(cells) and only_emulated(trace, cells) for cells in sides),
    )


def cuda_guards(trace: BranchTrace) -> tuple[Guard, ...]:
    """The guards that a CUDA GPU decides."""
    return tuple(guard for guard in trace.guards if guard.accelerator is Accelerator.CUDA)


def only_emulated(trace: BranchTrace, cells: Sequence[int]) -> bool:
    """Whether all these cells emulate an accelerator."""
    return all(trace.cells[number].emulates for number in cells)


@dataclass(frozen=True, slots=True)
class Open:
    """A branch that some cells of one flow did not take, although they evaluated its guard."""

    guard: Guard
    side: bool
    """The side not taken."""
    flow: str
    cells: tuple[str, ...]
    """Variants that did not take it."""
    emulated: tuple[str, ...]
    """Variants of the same flow that took it with an emulated accelerator."""


def covered_by_emulation(trace: BranchTrace) -> Iterator[Open]:
    """Branches that cells without emulation did not take, and that cells of the same flow took with emulation, and none
    of its other cells did on the same kind of weights.
    """
    for guard in cuda_guards(trace):
        for side in (True, False):
            for flow in dict.fromkeys(cell.flow for cell in trace.cells):
                found = _open(trace, guard, side, flow)
                if found.cells and found.emulated:
                    yield found


def _open(trace: BranchTrace, guard: Guard, side: bool, flow: str) -> Open:  # noqa: FBT001 - a side is a truth value
    took, other = set(guard.took(side)), set(guard.took(not side))
    own = [number for number, cell in enumerate(trace.cells) if cell.flow == flow]
    plain = [n for n in own if n in other - took and not trace.cells[n].emulates]
    emulating = [n for n in own if n in took and trace.cells[n].emulates]
    return Open(guard, side, flow, _variants(trace, plain), _variants(trace, emulating))


def _variants(trace: BranchTrace, cells: Sequence[int]) -> tuple[str, ...]:
    return tuple(trace.cells[number].name.partition("[")[2].rstrip("]") for number in cells)
