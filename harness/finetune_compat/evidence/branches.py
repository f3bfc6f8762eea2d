"""Stores which device-dependent branches the cells of a stack took, and writes the page. Host side.

reports/branches/
    <stack>.json    one run of `-- --branches`: every guard that a cell evaluated, and the cells that took each side
    branches.md     derived from all records
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from finetune_compat.contract.branches import BranchTrace, Guard
from finetune_compat.contract.catalog import TRACED_CELLS
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.plan import Plan
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.machine.provenance import commit, short
from finetune_compat.report import wording
from finetune_compat.report.markdown import plain, table
from finetune_compat.results.branches import (
    covered_by_emulation,
    cuda_guards,
    file_of,
    only_emulated,
    read_trace,
    uncovered,
)
from finetune_compat.results.order import spans_of, stack_order
from finetune_compat.run.keyword import selected


def traced(plan: Plan, arguments: Sequence[str]) -> Plan:
    """`plan` with the cells to trace: `TRACED_CELLS`, or those of all cells that `-k` selects.

    Raises:
        CompatError: `arguments` has other options than `-k`, or selects no cell.
    """
    usual = tuple(cell for cell in plan.cells if (cell.flow, cell.variant) in TRACED_CELLS)
    chosen = selected(plan.cells, arguments) if arguments else usual
    if not chosen:
        raise CompatError(
            "no cell to trace" if chosen is not None else "--branches accepts only -k",
            where=f"arguments after -- ({' '.join(arguments)})",
            meaning="The cells run in one process without pytest.",
            todo="Select cells with -k, or trace the usual ones without -k.",
        )
    return dataclasses.replace(plan, cells=chosen)


def save(plan: Plan, status: int, arguments: Sequence[str]) -> str:
    """Store the record of a run in place of an earlier one of its stack, and rewrite the page.

    Args:
        plan: the plan of the run.
        status: exit status of the process that traced the cells.
        arguments: the arguments after the options, which may have selected some cells only.

    Returns:
        A sentence: where the record is stored, or why it is not.

    Raises:
        RecordsError: a stored record cannot be read.
        CompatError: this package does not run from a checkout.
    """
    if status:
        return f"Not stored in {places().branches}: the run failed."
    if arguments:
        return (
            f"Not stored in {places().branches}: {' '.join(arguments)} left some cells out. See {plan.branches_file}."
        )
    found = dataclasses.replace(read_trace(plan.branches_file), commit=commit())
    path = places().branches / file_of(plan.stack, plan.device)
    write_atomically(path, json.dumps(dataclasses.asdict(found), separators=(",", ":")) + "\n")
    write_atomically(places().branches / "branches.md", page(read_kept(places().branches)))
    return f"Stored in {path}."


def read_kept(branches: Path) -> tuple[BranchTrace, ...]:
    """The stored records, in the order of their stacks.

    Raises:
        RecordsError: a file is not a record.
    """
    found = [read_trace(path) for path in branches.glob("*.json")]
    return tuple(sorted(found, key=lambda trace: (stack_order(trace.stack), trace.device)))


# ---------------------------------------------------------------------------------------------------------------- page

INTRODUCTION = """\
A guard is a condition of TRL, PEFT, Transformers, Accelerate or bitsandbytes whose value depends on the device, such as
`torch.cuda.is_available()`. Each of its two sides is a branch. A branch that no cell took is not covered on this
device: a fault in it is not found. Only guards that a cell evaluated are listed. Guards that only name accelerators of
other makers are counted and not listed, because a CUDA GPU decides none of them. A guard is found in the source by its
names; a value that a function returns is followed only if the function's name says that it depends on the device.
Written by `-- --branches`. The JSON file of the stack has the cells of each side. Line numbers are those of the newest
stack of a row.\
"""

COUNTS = (
    "stack",
    "versions",
    "on",
    "cells",
    "guards",
    "branches",
    "not covered",
    "only emulated",
    "other makers",
    "at",
)

ENDED = ("cell", "error", "stacks")

UNTAKEN = ("where", "function", "condition", "never", "stacks")

EMULATED = ("where", "function", "condition", "flow", "not taken", "by", "under emulation by", "stacks")

Row = tuple[str, ...]


def page(traces: Sequence[BranchTrace]) -> str:
    """The page, in Markdown. A row of its tables is what stacks have in common.

    Args:
        traces: records in the order of their stacks.
    """
    parts = [
        "# Which branches need a GPU?",
        INTRODUCTION,
        table(COUNTS, map(_counts, traces)),
        "## Not covered on this device",
        _shared(UNTAKEN, traces, _untaken),
        "## Covered under emulation",
        _shared(EMULATED, traces, _emulated),
        "## Cells that ended in an error",
        _shared(ENDED, traces, _ended),
    ]
    return "\n\n".join(parts) + "\n"


def _counts(trace: BranchTrace) -> list[str]:
    found, guards = uncovered(trace), cuda_guards(trace)
    return [
        trace.stack,
        ", ".join(f"{name} {version}" for name, version in trace.versions.items()),
        f"Python {trace.python}, {trace.device}",
        *map(str, (len(trace.cells), len(guards), found.branches, found.untaken, found.emulated)),
        str(len(trace.guards) - len(guards)),
        f"`{short(trace.commit)}`",
    ]


def _shared(
    head: Sequence[str], traces: Sequence[BranchTrace], rows: Callable[[BranchTrace], Iterable[tuple[str, Row]]]
) -> str:
    """A table of the rows of all traces, each once, with its stacks.

    Args:
        head: the columns.
        traces: records in the order of their stacks.
        rows: the rows of a record: the first column, which may differ between stacks, and the others.
    """
    first: dict[Row, str] = {}
    stacks: dict[Row, list[str]] = {}
    for trace in traces:
        for place, row in rows(trace):
            first[row] = place
            stacks.setdefault(row, []).append(trace.stack)
    order = [trace.stack for trace in traces]
    found = [
        [first[row], *row[1:], ", ".join(map(wording.span, spans_of(having, order)))] for row, having in stacks.items()
    ]
    return table(head, sorted(found)) if found else "Nothing."


def _ended(trace: BranchTrace) -> Iterator[tuple[str, Row]]:
    for cell in trace.cells:
        if cell.error:
            yield plain(cell.name), (cell.name, plain(cell.error))


def _untaken(trace: BranchTrace) -> Iterator[tuple[str, Row]]:
    for guard in cuda_guards(trace):
        for side in (True, False):
            if not guard.took(side):
                yield _place(guard), (*_condition(guard), str(side).lower())


def _place(guard: Guard) -> str:
    return f"`{guard.file}:{guard.line}`"


def _condition(guard: Guard) -> Row:
    """File, function and condition: what identifies a guard in releases that moved its line."""
    return guard.file, f"`{guard.function}`", f"`{guard.condition.replace('|', chr(92) + '|')}`"


def _emulated(trace: BranchTrace) -> Iterator[tuple[str, Row]]:
    """One row for each branch and set of flows: flows with the same cells share a row."""
    by_cells = groupby(
        covered_by_emulation(trace), key=lambda found: (found.guard, found.side, found.cells, found.emulated)
    )
    for (guard, side, cells, emulated), group in by_cells:
        flows = ", ".join(found.flow for found in group)
        only = " (no other cell)" if only_emulated(trace, guard.took(side)) else ""
        row = (*_condition(guard), flows, str(side).lower(), ", ".join(cells), ", ".join(emulated) + only)
        yield _place(guard), row
