"""Choose the default tier from the results of the baselines. `compat known` writes it."""

from __future__ import annotations

from collections.abc import Hashable

from finetune_compat.gate.known import NONE, HeldCell, Known
from finetune_compat.run.default_tier import DefaultTier, digest


def tier_of(known: Known) -> DefaultTier:
    """The shortest cell of each group with the same verdicts on every stack, and of each flow that has none of these.
    A verdict is its outcome, the failing checks and the known issues; a stack without the cell counts as one, too.
    """
    shortest: dict[Hashable, HeldCell] = {}
    ordered = sorted(known.cells, key=lambda cell: (cell.seconds, cell.name))
    for cell in ordered:
        shortest.setdefault(verdicts(cell, known), cell)
    present = {flow_of(cell) for cell in shortest.values()}
    for cell in ordered:
        if flow_of(cell) not in present:
            shortest.setdefault(flow_of(cell), cell)
    return DefaultTier(
        locks=frozenset(stack.lock_sha256 for stack in known.stacks),
        flows={flow: digest(flow) for flow in {flow_of(cell) for cell in known.cells}},
        cells=frozenset(cell.name.partition("@")[0] for cell in shortest.values()),
    )


def flow_of(cell: HeldCell) -> str:
    """The cell's flow."""
    return cell.name.partition("[")[0]


def verdicts(cell: HeldCell, known: Known) -> Hashable:
    """What a cell says of every stack."""
    return tuple(None if place == NONE else _verdict(known, place) for place in cell.results)


def _verdict(known: Known, place: int) -> Hashable:
    verdict = known.results[place].verdict
    return verdict.outcome, verdict.failing, verdict.issues, verdict.refused
