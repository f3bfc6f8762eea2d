"""`compat renew`: measure what is out of date of a committed baseline, and replace it when all of it is measured.

Cells run as in `compat run`: finished cells are in the store at once, so a renewal that was killed resumes where it
was. Cells that the baseline holds as today's cells would measure them are put into the store first. The baseline is
replaced by `compat keep`, as a whole, and only by a complete run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from finetune_compat.contract.catalog import Tier, flow_named
from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.errors import CompatError, ExitCode
from finetune_compat.contract.options import DeviceChoice
from finetune_compat.contract.records import DeviceKind, Observation
from finetune_compat.evidence.baseline import save, tier_of
from finetune_compat.machine.console import say
from finetune_compat.machine.files import locked_file, read_object
from finetune_compat.machine.places import places
from finetune_compat.machine.units import counted
from finetune_compat.results.cpu_seconds import read_cpu_seconds
from finetune_compat.results.digests import Digests, read_digests
from finetune_compat.results.run_files import PROVENANCE, read_observations
from finetune_compat.run import command, stack_run
from finetune_compat.run.estimate import Took, expected, loads, makespan, took
from finetune_compat.run.options import RunOptions
from finetune_compat.run.priority import format_span
from finetune_compat.run.request import RunRequest, Selection, select
from finetune_compat.run.selection import AskedCells
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.store.age import lock_today
from finetune_compat.store.sources import sources
from finetune_compat.store.store import Store

LOWEST_PRIORITY = 19
"""A renewal gives way to everything else on the machine."""

LIMIT_S = 600.0
"""Time limit of a cell: five times the usual one, because at the lowest priority a cell waits for a core."""

RETRIES = 2
"""Retries of cells that were lost to infrastructure failures. One lost cell would make the whole run incomplete."""

WHERE = "compat renew"


class Reason(StrEnum):
    """Why a cell of a baseline is out of date. It may have several reasons."""

    NEW = "new"
    SOURCES = "other sources"
    LOCK = "another lock"
    ENVIRONMENT = "another environment"
    UNKNOWN = "not known what they were measured with"
    FIELDS = "without fields of today's cells"


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """One call of `compat renew`."""

    name: str
    stacks: tuple[str, ...] = ()
    """Names or globs of the only stacks to measure now; empty: all."""
    jobs: int = 1
    """Parallel stacks or workers."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A committed baseline."""

    path: Path
    observations: Mapping[str, Observation]
    digests: Digests
    tier: Tier
    flows: tuple[str, ...]
    """The flows it was kept for; empty: all."""
    variants: tuple[str, ...] = ()
    """Globs of the variants it was kept for; empty: all."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds by cell, where they are known."""

    @property
    def device(self) -> DeviceKind:
        """The device of its cells."""
        return next(iter(self.observations.values())).device.kind

    @property
    def python(self) -> str:
        """The Python of its stacks, such as `3.11`."""
        return ".".join(next(iter(self.observations.values())).stack.python.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a renewal has to do."""

    selection: Selection
    current: tuple[str, ...]
    """Cells that the baseline holds as today's cells would measure them."""
    cached: tuple[str, ...]
    """Other cells whose observation is in the store."""
    todo: Mapping[str, frozenset[Reason]]
    """Cells to run."""
    gone: tuple[str, ...]
    """Cells of the baseline that do not exist any more."""
    seconds: Mapping[str, float]
    """Expected duration of each cell to run."""

    @property
    def up_to_date(self) -> bool:
        """Whether the baseline is what would be measured today."""
        return not (self.todo or self.cached or self.gone)


def renew(request: RenewRequest) -> int:
    """Measure what is out of date, and replace the baseline when all of it is measured.

    Renewals of one checkout wait for each other, because they would make the same environments.

    Returns:
        The exit code of the run. HEALTHY without a run, if nothing is out of date.

    Raises:
        CompatError: there is no such baseline.
    """
    os.nice(LOWEST_PRIORITY)
    lock = places().runs / "renew.lock"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked_file(lock, wait=False))
        except BlockingIOError:
            say("another renewal is running; this one waits for it")
            held.enter_context(locked_file(lock))
        return _renew(request)


def _renew(request: RenewRequest) -> int:
    old = read_baseline(request.name)
    found = renewal(old, request)
    _say_all(_lines(request, found))
    if found.up_to_date:
        return ExitCode.HEALTHY
    put_current(old, found)
    ended = command.execute(run_request(old, request))
    whole = replace(request, stacks=())
    if request.stacks and ended.exit_code <= command.INTERRUPTED:
        left = renewal(old, whole)
        if left.todo:
            _say_all(["", f"{request.name} is not replaced yet: {counted(len(left.todo), 'cell')} to run"])
            return ended.exit_code
        ended = command.execute(run_request(old, whole))
    if ended.exit_code > command.INTERRUPTED or ended.exit_code == ExitCode.COULD_NOT_TELL:
        say(f"{request.name} is not replaced: the run is incomplete. Run the same command again to resume.")
        return ended.exit_code
    target = save(str(ended.run), old.path.name, old.flows, old.variants)
    say(f"{places().shown(target)} is replaced; read its summary.md, and commit it")
    for name in remove_absorbed(target):
        say(f"{name}: removed, because {target.name} holds all its cells")
    return ended.exit_code


def list_only(request: RenewRequest) -> int:
    """Say what is out of date, by stack and flow, and how long it takes. Run and write nothing."""
    found = renewal(read_baseline(request.name), request)
    _say_all([*_lines(request, found), *_tables(found)])
    return ExitCode.HEALTHY


def in_background(request: RenewRequest) -> int:
    """Start the renewal in a process that outlives this one, and say where its output is.

    Raises:
        CompatError: there is no such baseline.
    """
    _path(request.name)
    log = places().runs / f"renew-{request.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    stacks = ("--stacks", ",".join(request.stacks)) if request.stacks else ()
    arguments = ("renew", request.name, *stacks, "--jobs", str(request.jobs), "--out", str(places().runs))
    with log.open("a") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_compat", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    say(f"started as process {process.pid}; output: {places().shown(log)}")
    return ExitCode.HEALTHY


# ------------------------------------------------------------------------------------------------- what is out of date


def read_baseline(name: str) -> Baseline:
    """The committed baseline called `name`.

    Raises:
        CompatError: there is none.
        RecordsError: one of its files cannot be read.
    """
    path = _path(name)
    _, observations = read_observations(path / "observations.jsonl")
    provenance: dict[str, Any] = read_object(path / PROVENANCE)
    return Baseline(
        path=path,
        observations=observations,
        digests=read_digests(path) or Digests(),
        cpu_s=read_cpu_seconds(path),
        tier=tier_of(observations.values()),
        flows=tuple(provenance.get("flows", ())),
        variants=tuple(provenance.get("variants", ())),
    )


def _path(name: str) -> Path:
    there = sorted(path.name for path in places().baselines.glob("*") if (path / PROVENANCE).exists())
    if name not in there:
        raise CompatError(
            f"there is no baseline {name!r}",
            where=places().shown(places().baselines),
            todo=f"There are: {', '.join(there) or 'none'}. The first is made by compat run and compat keep.",
        )
    return places().baselines / name


def run_request(old: Baseline, request: RenewRequest) -> RunRequest:
    """The run that measures the baseline, or the stacks of `request`, as today's cells do."""
    return RunRequest(
        asked=AskedCells(stacks=request.stacks, flows=old.flows, variants=old.variants),
        python=old.python,
        retries=RETRIES,
        jobs=request.jobs,
        options=RunOptions(device=DeviceChoice(old.device), tier=old.tier, limit=LIMIT_S),
    )


def renewal(old: Baseline, request: RenewRequest) -> Renewal:
    """What is out of date of `old`, or of the stacks of `request`."""
    asked, store = run_request(old, request), Store.configured()
    selection = select(asked, stack_run.chosen_gpus(asked.options, WHERE), always=True)
    cached = store.has(selection.addresses.values())
    reasons = {cell: frozenset(_reasons(old, cell, selection.addresses.get(cell))) for cell in selection.cells}
    current = tuple(cell for cell, why in reasons.items() if not why)
    known = tuple(cell for cell, why in reasons.items() if why and selection.addresses.get(cell) in cached)
    todo = {cell: why for cell, why in reasons.items() if why and cell not in set(known)}
    return Renewal(
        selection=selection,
        current=current,
        cached=known,
        todo=todo,
        gone=() if request.stacks else tuple(cell for cell in old.observations if cell not in reasons),
        seconds=expected(todo, _took(old, store).seconds),
    )


def _reasons(old: Baseline, cell: str, address: str | None) -> Iterator[Reason]:
    """Why the cell of the baseline is not what today's cell would measure. `address` is None if it is not known: then
    its environment counts as unchanged.
    """
    seen = old.observations.get(cell)
    if seen is None:
        yield Reason.NEW
        return
    digests, flow = old.digests, flow_named(seen.flow)
    today = (sources().digest(flow, real=False), sources().given(flow, seen.variant.model, real=False))
    then = (digests.sources.get(flow.name), digests.given.get(flow.name, {}).get(seen.variant.model))
    other_sources = any(known not in (None, now) for known, now in zip(then, today, strict=True))
    other_lock = digests.locks.get(seen.stack.name) not in (None, _lock(seen.stack.name, old.device))
    recipe = digests.recipe(seen)
    if other_sources:
        yield Reason.SOURCES
    if other_lock:
        yield Reason.LOCK
    if recipe is None and not other_sources:
        yield Reason.UNKNOWN
    if recipe is not None and address not in (None, recipe.address) and not (other_sources or other_lock):
        yield Reason.ENVIRONMENT
    if seen.lacks:
        yield Reason.FIELDS


@cache
def _lock(stack: str, device: DeviceKind) -> str | None:
    return lock_today(read_matrix(), stack, device)


def _took(old: Baseline, store: Store) -> Took:
    """What each cell took: in the baseline, or in the store if it was measured since."""
    before = Took({cell: seen.duration_s for cell, seen in old.observations.items()}, old.cpu_s)
    # The store's history does not say in which tier a cell was measured.
    return before.then(took(store.history())) if old.tier is Tier.FULL else before


def put_current(old: Baseline, found: Renewal) -> None:
    """Put the cells of `current` into the store, if they are not there."""
    store = Store.configured()
    recipes = {cell: recipe for cell in found.current if (recipe := old.digests.recipe(old.observations[cell]))}
    there = store.has(recipe.address for recipe in recipes.values())
    for cell, recipe in recipes.items():
        if recipe.address not in there:
            store.put(recipe, old.observations[cell], old.cpu_s.get(cell))


def remove_absorbed(target: Path) -> tuple[str, ...]:
    """Remove the baselines of single flows whose cells are all in the baseline at `target`, in the same tier. Return
    their names.
    """
    whole = read_baseline(target.name)
    names = []
    for path in sorted(target.parent.glob("*")):
        if path == target or not (path / PROVENANCE).exists():
            continue
        other = read_baseline(path.name)
        if (
            (other.flows or other.variants)
            and other.tier is whole.tier
            and other.observations.keys() <= whole.observations.keys()
        ):
            shutil.rmtree(path)
            names.append(path.name)
    return tuple(names)


# --------------------------------------------------------------------------------------------------------- what is said


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)


def _lines(request: RenewRequest, found: Renewal) -> list[str]:
    cells, stacks = len(found.selection.cells), len(found.selection.rows)
    head = f"{request.name}: {counted(cells, 'cell')} on {counted(stacks, 'stack')}"
    if found.up_to_date:
        return [f"{head}: all are as in the baseline, nothing to renew"]
    parts = [
        f"{len(found.current):,} as in the baseline",
        f"{len(found.cached):,} measured since",
        f"{len(found.todo):,} to run",
        *([f"{len(found.gone):,} of the baseline do not exist any more"] if found.gone else []),
    ]
    why = Counter(reason for reasons in found.todo.values() for reason in reasons)
    reasons = ", ".join(f"{why[reason]:,} {reason}" for reason in Reason if why[reason])
    if not found.todo:
        return [f"{head}: {', '.join(parts)}"]
    seconds = makespan(loads(found.seconds).values(), request.jobs)
    return [
        f"{head}: {', '.join(parts)}",
        f"why: {reasons}",
        f"about {format_span(seconds)}, {counted(request.jobs, 'stack')} at a time",
    ]


def _tables(found: Renewal) -> list[str]:
    """The cells to run, by stack and by flow."""
    stacks = Counter(parse_cell(cell).stack for cell in found.todo)
    flows = Counter(parse_cell(cell).flow for cell in found.todo)
    seconds = loads(found.seconds)
    wide = max(map(len, (*stacks, *flows)), default=0)
    return [
        *(["", "by stack"] if stacks else []),
        *(f"  {stack:<{wide}} {number:>6,}  about {format_span(seconds[stack])}" for stack, number in stacks.items()),
        *(["", "by flow"] if flows else []),
        *(f"  {flow:<{wide}} {number:>6,}" for flow, number in flows.items()),
    ]
