"""What changed since a baseline was measured: calculated from its digests and today's files, never from its date."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.checks.digests import check_digests
from finetune_compat.contract.catalog import CATALOG, MODELS
from finetune_compat.contract.errors import LockError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.results.age import Age, Part
from finetune_compat.results.digests import Digests, read_digests
from finetune_compat.results.run_files import PROVENANCE
from finetune_compat.stacks.locks import Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.store.sources import sources


def age_of(run: Path, device: DeviceKind = DeviceKind.CPU) -> Age | None:
    """What changed since the baseline in `run` was measured; None if `run` is not a baseline.

    Raises:
        RecordsError: its digests cannot be read.
    """
    if not (run / PROVENANCE).exists():
        return None
    digests = read_digests(run) or Digests()
    recorded = {Part.SOURCES: digests.sources, Part.LOCKS: digests.locks, Part.CHECKS: digests.checks}
    flows = _flows(digests)
    return Age(
        flows=flows,
        every_flow=bool(flows) and set(flows) == set(digests.sources),
        locks=_locks(digests, device),
        checks=tuple(code for code, digest in check_digests().items() if digests.checks.get(code) != digest)
        if digests.checks
        else (),
        unknown=tuple(part for part, known in recorded.items() if not known),
    )


def _flows(digests: Digests) -> tuple[str, ...]:
    today = {flow.name: flow for flow in CATALOG}
    gone = sorted(digests.sources.keys() - today.keys())
    changed = [
        name
        for name, flow in today.items()
        if name in digests.sources
        and (
            digests.sources[name] != sources().digest(flow, real=False)
            or any(
                model not in MODELS or sources().given(flow, model, real=False) != given
                for model, given in digests.given.get(name, {}).items()
            )
        )
    ]
    return (*changed, *gone)


def _locks(digests: Digests, device: DeviceKind) -> tuple[str, ...]:
    matrix = read_matrix()
    return tuple(stack for stack, digest in digests.locks.items() if lock_today(matrix, stack, device) != digest)


def lock_today(matrix: Matrix, name: str, device: DeviceKind) -> str | None:
    """The digest of the lock of a stack; None if the matrix has no valid lock of that name."""
    at = {stack.on(python): (stack, python) for stack in matrix.stacks for python in stack.pythons}
    if name not in at:
        return None
    try:
        lock = locked(matrix.plan(*at[name], device))
    except LockError:
        return None
    return None if isinstance(lock, Unsolvable) else lock.sha256
