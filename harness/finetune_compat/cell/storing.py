"""Store the observation of a cell as soon as it is judged, so that an interrupted run repeats no finished cell. Imports
nothing of the stack.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import os
import sys
import sysconfig
from pathlib import Path

from finetune_compat.checks import Outcome, Verdict
from finetune_compat.contract.plan import Plan, PlannedCell, apart
from finetune_compat.contract.recipe import contradiction
from finetune_compat.contract.records import Observation, to_json
from finetune_compat.contract.version import __version__
from finetune_compat.machine.files import append
from finetune_compat.machine.wheel_records import CODE, OF_TOOLS, digest, recorded
from finetune_compat.store import stored_files
from finetune_compat.store.stored_files import Stored


def record(plan: Plan, seen: Observation) -> None:
    """Append `seen` to the observations of the run.

    Raises:
        OSError: the disk is full. The cell has no observation then.
    """
    append(Path(plan.run) / "observations.jsonl", f"{to_json(seen)}\n".encode())


def keep(plan: Plan, planned: PlannedCell, seen: Observation, verdict: Verdict, cpu_s: float | None = None) -> None:
    """Store `seen`, and the CPU seconds that it took, at the address of the cell's recipe. Infrastructure failures are
    not stored.

    An observation that contradicts the recipe is not stored either. The reason is appended to `plan.unkept_file`, and
    the host prints it. The observation is part of the run in any case.
    """
    if plan.store is None or planned.recipe is None or verdict.outcome is Outcome.INFRASTRUCTURE:
        return
    line, store = to_json(seen), Path(plan.store)
    problem = (
        contradiction(planned.recipe, json.loads(line))
        or _other_beside(planned.recipe.beside)
        or _unaccounted(plan)
        or _other_files()
    )
    if not problem:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        stored = Stored(
            recipe=planned.recipe,
            line=line,
            counter=stored_files.next_counter(store, planned.recipe.address),
            recorded_at=now,
            harness=__version__,
            outcome=verdict.outcome.value,
            cpu_s=cpu_s,
        )
        try:
            stored_files.write(store, stored)
        except OSError as error:
            problem = f"{plan.store} cannot be written to: {error.strerror}"
    if problem:
        _report(plan, f"{seen.cell}: {problem}\n")


@functools.cache
def _other_beside(expected: tuple[str, ...]) -> str:
    """A message that names the packages outside the lock whose version differs from `expected`; empty if none does."""
    other = [package for package in expected if package.partition(" ")[2] != _version(package.partition(" ")[0])]
    return f"packages outside the lock are not those that the host found: {', '.join(other)}" if other else ""


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unaccounted(plan: Plan) -> str:
    """A message that names the loaded modules of this package that no recipe covers; empty if there are none."""
    known = set(plan.modules)
    loaded = {name for name in list(sys.modules) if name.partition(".")[0] == "finetune_compat"}
    strange = sorted(name for name in loaded - known if not apart(name))
    return f"modules were loaded that the store address does not cover: {', '.join(strange)}" if strange else ""


def _other_files() -> str:
    """A message that names the loaded files that are not those of their wheels; empty if there are none.

    The host compares all files before the first cell. They may change while cells run.
    """
    site = Path(sysconfig.get_paths()["purelib"])
    found = [path for path in _loaded(site) if _is_other(site, path)]
    return f"files are not those of their wheels: {', '.join(sorted(found))}" if found else ""


def _loaded(site: Path) -> list[str]:
    """The files of loaded modules below `site`, relative to it."""
    # A module's `__dict__`: reading an attribute of a lazy module imports it.
    files = [getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values())]
    start = f"{site}/"
    return [file.removeprefix(start) for file in files if isinstance(file, str) and file.startswith(start)]


_SAME: dict[str, tuple[int, int, int]] = {}
"""Files that equal those of their wheels: size and times, by path. Comparing 2,700 files takes 0.2 s, and looking at
their times 0.01 s.
"""


def _is_other(site: Path, path: str) -> bool:
    try:
        at = os.stat(f"{site}/{path}")  # noqa: PTH116 - thousands of files; a Path for each costs more
    except OSError:
        return True
    now = (at.st_size, at.st_mtime_ns, at.st_ctime_ns)
    if path in OF_TOOLS or _SAME.get(path) == now:
        return False
    file = _recorded(site).get(path)
    same = file is not None and file.size in (None, at.st_size)
    if file is not None and path.endswith(CODE):
        same = same and digest(f"{site}/{path}") == file.sha256
    if same:
        _SAME[path] = now
    return not same


_recorded = functools.cache(recorded)


def _report(plan: Plan, line: str) -> None:
    plan.unkept_file.parent.mkdir(parents=True, exist_ok=True)
    append(plan.unkept_file, line.encode())
