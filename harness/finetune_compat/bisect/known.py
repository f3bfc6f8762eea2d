"""Results that are stored already: a search counts them before it runs anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from packaging.version import Version

from finetune_compat.bisect.probe import Bench, Probe, of_script
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.gate.resolved import Resolved
from finetune_compat.gate.script_results import ScriptResults
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import judge_one, read_line
from finetune_compat.run import stack_run
from finetune_compat.stacks.locks import Lock, Unsolvable
from finetune_compat.stacks.matrix import Matrix
from finetune_compat.stacks.supply import REGISTRY
from finetune_compat.store.addresses import recipes
from finetune_compat.store.predicted import predict
from finetune_compat.store.store import Store


def locked_places(matrix: Matrix, package: str, versions: Sequence[Version]) -> tuple[int, ...]:
    """The places of the releases that have a lock already, so that resolving them reads a file."""
    rows = {Version(stack.pin) for stack in matrix.stacks if stack.package == package}
    made = {path.name.partition("-py")[0] for path in places().gate_locks.glob(f"{package}[0-9]*-py*.txt")}
    return tuple(place for place, version in enumerate(versions) if version in rows or f"{package}{version}" in made)


def stored_results(resolved: Callable[[int], Resolved], locked: Sequence[int], bench: Bench) -> dict[int, Probe]:
    """The stored result of each locked release that has one, by place."""
    found = {}
    for place in locked:
        probe = (_of_script if bench.subject.script else _of_cell)(resolved(place), bench)
        if probe is not None and probe.measured.state is not None:
            found[place] = bench.done[probe.stack] = probe
    return found


def _of_script(of: Resolved, bench: Bench) -> Probe | None:
    script = bench.subject.script
    if script is None or isinstance(of.lock, Unsolvable):
        return None
    seen = ScriptResults(script.given, script.steps, bench.gpus).without_environment(of)
    versions = {**of.lock.requirements, "torch": of.plan.torch}
    return replace(of_script(of.stack, versions, bench.condition, seen), ran=False) if seen else None


def _of_cell(of: Resolved, bench: Bench) -> Probe | None:
    if isinstance(of.lock, Unsolvable):
        return None
    predicted = predict(of.plan.python, of.plan.torch, REGISTRY)
    if predicted is None:
        return None
    lock: Lock = of.lock
    plan = stack_run.plan_of(of.stack, lock, bench.options, bench.ledger, bench.device, base_torch=False)
    plan = replace(plan, cells=tuple(cell for cell in plan.cells if str(cell) == bench.subject.cell))
    wanted = recipes(plan, predicted.installed(lock), bench.gpus)
    stored = Store.configured().read(recipe.address for recipe in wanted.values())
    for cell, recipe in wanted.items():
        if recipe.address in stored and parse_cell(cell).stack == of.stack:
            seen = read_line(stored[recipe.address].line, cell)
            verdict = judge_one(seen, bench.ledger)
            versions = {**lock.requirements, "torch": of.plan.torch}
            return Probe(of.stack, versions, bench.condition.of(verdict, seen), verdict, seen, ran=False)
    return None
