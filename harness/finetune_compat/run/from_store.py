"""What a session reads from the store and adds to it: observations of cached and of new cells. Host side."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.plan import Plan
from finetune_compat.contract.recipe import Recipe
from finetune_compat.machine.files import append
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.units import counted
from finetune_compat.run.estimate import cells_longest_first, expected, took
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.addresses import addressed, installed, recipes
from finetune_compat.store.remote import StoreUnreachable
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Stored


@dataclass(frozen=True, slots=True)
class Served:
    """A plan whose cells have store addresses, and the cached observations at these addresses."""

    plan: Plan
    store: Store
    recipes: Mapping[str, Recipe]
    """By cell id; cells that cannot be cached have none."""
    answers: Mapping[str, Stored]
    """Cached observations by cell id."""
    fresh: bool
    """Whether cached observations were ignored."""

    def copy(self, cells: Iterable[str]) -> int:
        """Write the cached observations of `cells` into the run, as the cells would; return their number."""
        lines = [self.answers[cell].line for cell in cells if cell in self.answers]
        if lines:
            append(Path(self.plan.run) / "observations.jsonl", "".join(f"{line}\n" for line in lines).encode())
        return len(lines)

    def describe(self, cells: Collection[str]) -> str:
        """One line: how many of `cells` are cached and how many must run."""
        if not self.recipes:
            return "store: not used for a model named by its hub id, or for GPUs of different kinds"
        if self.fresh:
            head = f"store: cached results are ignored (--fresh), {len(cells)} cells to run"
            return f"{head}; their results are stored in {self.store}"
        found = sum(cell in self.answers for cell in cells)
        return f"store: {found} of {len(cells)} cells are cached in {self.store}, {len(cells) - found} to run"

    def finish(self) -> tuple[str, ...]:
        """Copy new observations to the shared store; return one line for each reason why some could not be stored."""
        lines = not_stored([self.plan.unkept_file])
        try:
            self.store.push(recipe.address for recipe in self.recipes.values())
        except StoreUnreachable as error:
            lines.append(str(error))
        return tuple(lines)


def longest_first(plan: Plan) -> Plan:
    """Return `plan` with its cells sorted for several workers, by their earlier durations."""
    seconds = took(Store.configured().history()).seconds
    by_id = {plan.id_of(cell): cell for cell in plan.cells}
    return dataclasses.replace(plan, cells=tuple(by_id[name] for name in cells_longest_first(expected(by_id, seconds))))


def look_up(plan: Plan, lock: Lock, env_python: Path, gpus: Sequence[Gpu], *, fresh: bool = False) -> Served:
    """Return `plan` with the store addresses of its cells, and the cached observations at these addresses.

    Args:
        plan: the cells.
        lock: the lock of the plan's stack.
        env_python: the interpreter of the environment that equals `lock`.
        gpus: the GPUs to run on; empty for the CPU.
        fresh: ignore cached observations.

    Raises:
        InstallError: the environment of `env_python` has no torch.
        CompatError: the configured store is invalid.
        StoreUnreachable: some cells are not cached locally, and the shared store does not answer.
    """
    store = Store.configured()
    wanted = recipes(plan, installed(env_python, lock), gpus)
    by_address = {} if fresh else store.read(recipe.address for recipe in wanted.values())
    answers = {cell: by_address[found.address] for cell, found in wanted.items() if found.address in by_address}
    plan = addressed(plan, wanted, store.root)
    cells = tuple(dataclasses.replace(cell, stored=plan.id_of(cell) in answers) for cell in plan.cells)
    return Served(dataclasses.replace(plan, cells=cells), store, wanted, answers, fresh)


def not_stored(files: Iterable[Path]) -> list[str]:
    """Why cells did not store their observations: one line for each reason in `files`."""
    lines = [line for path in files if path.exists() for line in path.read_text(encoding="utf-8").splitlines()]
    reasons = Counter(line.partition(": ")[2] for line in lines)
    return [f"store: {counted(number, 'observation')} not stored: {reason}" for reason, number in reasons.items()]
