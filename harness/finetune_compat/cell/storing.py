"""Keep what a cell observed in the local store as soon as it is judged, so that whatever ends the run repeats nothing.
Imports nothing of the stack.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import os
import sys
from pathlib import Path

from finetune_compat.checks import Outcome, Verdict
from finetune_compat.contract.plan import Plan, PlannedCell, apart
from finetune_compat.contract.recipe import contradiction
from finetune_compat.contract.records import Observation, to_json
from finetune_compat.contract.version import __version__
from finetune_compat.store import stored_files
from finetune_compat.store.stored_files import Stored


def keep(plan: Plan, planned: PlannedCell, seen: Observation, verdict: Verdict) -> None:
    """Keep `seen` at the address of the cell's recipe, unless the machine failed: that says nothing of the versions.

    Nothing is kept that the recipe does not account for. Why not is written into `plan.unkept_file`, for the host to
    say: the observation is in the run either way.
    """
    if plan.store is None or planned.recipe is None or verdict.outcome is Outcome.INFRASTRUCTURE:
        return
    problem = contradiction(planned.recipe, seen) or _other_beside(planned.recipe.beside) or _unaccounted(plan)
    if not problem:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        stored = Stored(
            recipe=planned.recipe,
            line=to_json(seen),
            recorded_at=now,
            harness=__version__,
            outcome=verdict.outcome.value,
        )
        try:
            stored_files.write(Path(plan.store), stored)
        except OSError as error:
            problem = f"{plan.store} cannot be written to: {error.strerror}"
    if problem:
        _say(plan, f"{seen.cell}: {problem}\n")


@functools.cache
def _other_beside(expected: tuple[str, ...]) -> str:
    """What of the packages beside the lock is not as the host read it."""
    other = [told for told in expected if told.partition(" ")[2] != _version(told.partition(" ")[0])]
    return f"beside the lock is not what the host found: {', '.join(other)}" if other else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unaccounted(plan: Plan) -> str:
    """Modules of this project that are loaded here and whose contents no recipe counts."""
    known = set(plan.modules)
    loaded = {name for name in list(sys.modules) if name.partition(".")[0] == "finetune_compat"}
    strange = sorted(name for name in loaded - known if not apart(name))
    return f"modules ran that the address does not count: {', '.join(strange)}" if strange else ""


def _say(plan: Plan, line: str) -> None:
    plan.unkept_file.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(plan.unkept_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
