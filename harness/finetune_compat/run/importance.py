"""Why cells are important: what the store remembers of them, and the windows of the ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from packaging.version import Version

from finetune_compat.checks import Outcome
from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.errors import LockError
from finetune_compat.run.priority import edges
from finetune_compat.run.request import Selection
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix
from finetune_compat.store.store import Past


def was_red(past: Past | None, lost: str | None) -> bool:
    """Whether the last run of a cell failed, or was lost to an infrastructure failure at time `lost`."""
    if lost is not None and (past is None or past.recorded_at < lost):
        return True
    return past is not None and past.outcome == Outcome.FAIL


def edge_cells(selection: Selection, ledger: Ledger, matrix: Matrix) -> frozenset[str]:
    """Cells whose neighbouring release on their axis has other issues listed. That release need not be selected."""
    axes = dict.fromkeys((on.stack.package, on.python) for on in selection.stacks.values())
    found: set[str] = set()
    for package, python in axes:
        versions = _versions_on(matrix, package, python, selection)
        for flow, variant in dict.fromkeys(selection.variants.values()):
            listed = {
                name: ledger.listed(flow, variant, selection.device, locked_to) for name, locked_to in versions.items()
            }
            found |= {str(CellId(name, flow, str(variant), selection.device)) for name in edges(listed)}
    return frozenset(found)


def _versions_on(matrix: Matrix, package: str, python: str, selection: Selection) -> dict[str, Mapping[str, str]]:
    """Resolved versions of the installable stacks of an axis, oldest release first; none for an unpinned stack."""
    stacks = [stack for stack in matrix.stacks if package and stack.package == package and python in stack.pythons]
    found: dict[str, Mapping[str, str]] = {}
    for stack in sorted(stacks, key=lambda stack: Version(stack.pin)):
        # A stale or missing lock of a stack that is not selected does no harm.
        with contextlib.suppress(LockError):
            lock = locked(matrix.plan(stack, python, selection.device))
            if not isinstance(lock, Unsolvable):
                found[stack.on(python)] = _locked_versions(lock)
    return found


def _locked_versions(lock: Lock) -> Mapping[str, str]:
    return {**lock.requirements, "torch": lock.facts["torch"]}
