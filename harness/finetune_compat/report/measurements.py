"""Sentences about drift between stacks, the deep tier, and branches that no cell took."""

from __future__ import annotations

import math
from collections.abc import Sequence

from finetune_compat.checks import CHECKS
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.checks.drift import Definition, Drift
from finetune_compat.checks.learning import FALSE_ALARMS, MISSES
from finetune_compat.contract.catalog import DEEP_CELLS
from finetune_compat.machine.units import counted
from finetune_compat.report import wording
from finetune_compat.results.branches import Uncovered
from finetune_compat.results.lines import DeepLine
from finetune_compat.results.summary import Depth, StackSummary
from finetune_compat.stacks.matrix import run_command

DRIFT_TITLE = "Objective drift"

DRIFT_HEADS = ("from", "to", "what differs", "loss before any update", "cells", "in figures", "packages that moved")


def drift_row(drift: Drift) -> tuple[str, ...]:
    """A drift as a row under `DRIFT_HEADS`."""
    cells = f"{len(drift.cells)}, such as {drift.cells[0]}"
    return drift.before, drift.after, str(drift.kind), _change(drift), cells, drift.detail, ", ".join(drift.moved)


def _change(drift: Drift) -> str:
    if drift.smallest is None or drift.largest is None:
        return "not affected"
    if math.isinf(drift.largest):
        return "is a number on one side alone"
    if math.isclose(drift.smallest, drift.largest, rel_tol=0.05):
        return f"by {drift.largest:.1e}"
    return f"by {drift.smallest:.1e} to {drift.largest:.1e}"


def drift_line(drift: Drift) -> str:
    """A drift in one line."""
    loss = f"loss before any update {_change(drift)}"
    return f"{drift.before} -> {drift.after}: {drift.kind}, {loss}, {len(drift.cells)} cells; {drift.detail}"


def definition_line(definition: Definition) -> str:
    """Stacks with another definition of eval_loss, in one line."""
    first, last = definition.stacks[0], definition.stacks[-1]
    stacks = first if first == last else f"{first} to {last}"
    return (
        f"{stacks}: eval_loss is {definition.ratio:.4f} of the mean over its label tokens in "
        f"{len(definition.cells)} cells a stack, such as {definition.cells[0]}"
    )


# ---------------------------------------------------------------------------------------------------------- deep tier

DEEP_TITLE = "Deep tier"

DEEP_COST_S = 70
"""Seconds that the deep tier adds to a stack: the median of `reports/baseline/cpu-deep`, on one core, rounded up."""

DEEP_HEADS = ("cell", "eval loss fell by", "null", "accumulation", "checkpointing", "evaluation")


def uncovered(found: Uncovered) -> str:
    """The device-dependent branches of a stack that no cell took, in one line."""
    emulated = f", and {found.emulated:,} only with an emulated accelerator" if found.emulated else ""
    return (
        f"Not covered on this device: {found.untaken:,} of {found.branches:,} device-dependent branches"
        f"{emulated}. reports/branches/branches.md lists them."
    )


def depth(found: Depth, cells: int, stacks: Sequence[StackSummary]) -> str:
    """Whether the deep tier ran, in one line. If not: what is not checked, and how to run it on the last stack with
    cells.
    """
    if found.measured:
        return (
            f"{DEEP_TITLE}: {found.measured} of {counted(cells, 'cell')}, {found.seconds:.0f} s more. In the sweeps "
            f"over seeds healthy flows were called dead in {FALSE_ALARMS}, dead flows healthy in {MISSES}."
        )
    titles = "; ".join(f"{check.code} {check.title}" for check in CHECKS if check.code in DEEP_CHECKS)
    ran = [stack.name for stack in stacks if stack.has_cells]
    command = run_command(ran[-1], ("--tier", "deep")) if ran else None
    how = f": {command}" if command else ", with --tier deep."
    return (
        f"{DEEP_TITLE}: not run. It checks, on {len(DEEP_CELLS)} cells of a stack: {titles}. It costs {DEEP_COST_S} s "
        f"a stack{how}"
    )


def deep_row(cell: str, deep: DeepLine) -> tuple[str, ...]:
    """The measurements of the deep tier for one cell, as a row under `DEEP_HEADS`."""
    loss = (wording.ABSENT if value is None else f"{value:.4f}" for value in (deep.fall, deep.null))
    steps = (
        wording.ABSENT if value is None else f"off by {value:.1e}" for value in (deep.accumulation, deep.checkpointing)
    )
    return cell, *loss, *steps, _evaluation(deep.ignoring)


def _evaluation(ignoring: tuple[str, ...] | None) -> str:
    if ignoring is None:
        return wording.ABSENT
    return f"ignores the model: {', '.join(ignoring)}" if ignoring else "responds"


def deep_line(cell: str, deep: DeepLine) -> str:
    """The measurements of the deep tier for one cell, in one line."""
    name, *cells = deep_row(cell, deep)
    values = ", ".join(
        f"{head} {value}" for head, value in zip(DEEP_HEADS[1:], cells, strict=True) if value != wording.ABSENT
    )
    return f"{name}: {values or 'nothing could be measured'}"
