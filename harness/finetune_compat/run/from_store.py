"""What a session takes from the store and gives to it: cells that need not run, and those that did. Host side."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.plan import Plan
from finetune_compat.contract.recipe import Recipe
from finetune_compat.machine.gpus import Gpu
from finetune_compat.run.estimate import cells_longest_first, expected
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.addresses import addressed, installed, recipes
from finetune_compat.store.remote import StoreUnreachable
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Stored


@dataclass(frozen=True, slots=True)
class Served:
    """A plan whose cells know their addresses, and the answers that are there."""

    plan: Plan
    store: Store
    recipes: Mapping[str, Recipe]
    """By cell id; none for cells that cannot be kept."""
    answers: Mapping[str, Stored]
    """By cell id."""
    fresh: bool
    """Whether the store was not asked."""

    def copy(self, cells: Iterable[str]) -> int:
        """Write the answers for `cells` into the run, as the cells would have; return how many."""
        lines = [self.answers[cell].line for cell in cells if cell in self.answers]
        if lines:
            _append(Path(self.plan.run) / "observations.jsonl", lines)
        return len(lines)

    def told(self, cells: Collection[str]) -> str:
        """How many of `cells` need not run, in one line; empty where nothing is kept of any."""
        if not self.recipes:
            return "store: not used, because these cells' results could not be told from others'"
        if self.fresh:
            return f"store: not asked (--fresh), {len(cells)} cells to run; {self.store} keeps what they observe"
        found = sum(cell in self.answers for cell in cells)
        return f"store: {found} of {len(cells)} cells are kept in {self.store}, {len(cells) - found} to run"

    def finish(self) -> tuple[str, ...]:
        """Copy what is new to the shared store; return what could not be kept here or there, a line each."""
        lines = _unkept(self.plan.unkept_file)
        try:
            self.store.push(recipe.address for recipe in self.recipes.values())
        except StoreUnreachable as error:
            lines.append(str(error))
        return tuple(lines)


def longest_first(plan: Plan) -> Plan:
    """`plan` with its cells in the order in which several workers are to take them, by what they took before."""
    took = {cell: past.duration_s for cell, past in Store.configured().history().items()}
    by_id = {plan.id_of(cell): cell for cell in plan.cells}
    return dataclasses.replace(plan, cells=tuple(by_id[name] for name in cells_longest_first(expected(by_id, took))))


def look_up(plan: Plan, lock: Lock, env_python: Path, gpus: Sequence[Gpu], *, fresh: bool = False) -> Served:
    """`plan`, of a stack with this lock, with the addresses of its cells, and what the configured store has at them;
    nothing if `fresh`.

    Raises:
        InstallError: `env_python` is not that of an environment with torch.
        CompatError: the configured store is none.
        StoreUnreachable: some cells are not kept here, and the shared store does not answer.
    """
    store = Store.configured()
    wanted = recipes(plan, installed(env_python, lock), gpus)
    by_address = {} if fresh else store.read(recipe.address for recipe in wanted.values())
    answers = {cell: by_address[found.address] for cell, found in wanted.items() if found.address in by_address}
    plan = addressed(plan, wanted, store.root)
    cells = tuple(dataclasses.replace(cell, stored=plan.id_of(cell) in answers) for cell in plan.cells)
    return Served(dataclasses.replace(plan, cells=cells), store, wanted, answers, fresh)


def _append(path: Path, lines: Iterable[str]) -> None:
    """One write, as the cells append: sessions side by side do not mix lines."""
    content = "".join(f"{line}\n" for line in lines).encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        while content:
            content = content[os.write(handle, content) :]
    finally:
        os.close(handle)


def _unkept(path: Path) -> list[str]:
    """Why cells did not keep what they observed, each reason once."""
    if not path.exists():
        return []
    reasons = Counter(line.partition(": ")[2] for line in path.read_text(encoding="utf-8").splitlines())
    return [f"store: {number} observations are not kept: {reason}" for reason, number in reasons.items()]
