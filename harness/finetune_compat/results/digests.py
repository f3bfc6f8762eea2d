"""What a baseline was measured with: `digests.json` beside its observations.

    sources, given    by flow: the files and catalog values that its cells ran with
    locks             by stack
    environments      by stack: Python, torch and device
    checks            by code: the checks of the day on which it was kept

The recipe of each cell, and so its store address, follows from these and from its observation. Older baselines lack
some of them: then that part is not known, and is never guessed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from finetune_compat.contract.cell_id import parse_cell
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import Observation
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.record_files import read_record

DIGESTS = "digests.json"

P = TypeVar("P", "Environment", "Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a recipe says of the environment of a stack besides its lock."""

    python: str
    torch: str
    base_torch: bool
    beside: tuple[str, ...]
    device: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a recipe says of the options of a run."""

    model: str
    steps: int
    seed: int
    attention: str
    handicap: str | None
    schema: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What a baseline was measured with. An empty mapping, and None, mean that it is not known."""

    sources: Mapping[str, str] = field(default_factory=dict)
    """By flow: sha256 of the files of this project that ran inside its cells."""
    given: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By flow and model: sha256 of the catalog values that its cells were given."""
    locks: Mapping[str, str] = field(default_factory=dict)
    """By stack."""
    environments: Mapping[str, Environment] = field(default_factory=dict)
    """By stack."""
    options: Options | None = None
    deep: tuple[str, ...] = ()
    """Names of the cells for which the deep tier was asked, such as `sft-full[qwen2-full-gc]@cpu`."""
    unknown: tuple[str, ...] = ()
    """Cells whose own recipe is not known, or is another than the one that follows from these parts."""
    checks: Mapping[str, str] = field(default_factory=dict)
    """By code: sha256 of each check of cells."""

    def recipe(self, seen: Observation) -> Recipe | None:
        """The recipe that `seen` was measured with; None if a part is not known."""
        environment = self.environments.get(seen.stack.name)
        given = self.given.get(seen.flow, {}).get(seen.variant.model)
        lock, sources = self.locks.get(seen.stack.name), self.sources.get(seen.flow)
        if seen.cell in self.unknown or environment is None or self.options is None:
            return None
        if lock is None or sources is None or given is None:
            return None
        return Recipe(
            cell=seen.cell,
            lock_sha256=lock,
            sources=sources,
            given=given,
            deep=parse_cell(seen.cell).name in self.deep,
            **dataclasses.asdict(environment),
            **dataclasses.asdict(self.options),
        )


def digests_of(
    observations: Mapping[str, Observation], recipes: Mapping[str, Recipe], checks: Mapping[str, str]
) -> Digests:
    """The digests of a run, of which the recipes of some or all cells are known."""
    known = {cell: (observations[cell], recipe) for cell, recipe in recipes.items()}
    given: dict[str, dict[str, str]] = {}
    for seen, recipe in known.values():
        given.setdefault(seen.flow, {}).setdefault(seen.variant.model, recipe.given)
    found = Digests(
        sources={seen.flow: recipe.sources for seen, recipe in known.values()},
        given=given,
        locks={seen.stack.name: seen.stack.lock_sha256 for seen in observations.values()},
        environments={seen.stack.name: _part(Environment, recipe) for seen, recipe in known.values()},
        options=next((_part(Options, recipe) for recipe in recipes.values()), None),
        deep=tuple(sorted({parse_cell(cell).name for cell, recipe in recipes.items() if recipe.deep})),
        checks=dict(checks),
    )
    odd = [cell for cell, seen in observations.items() if found.recipe(seen) != recipes.get(cell)]
    return dataclasses.replace(found, unknown=tuple(odd))


def _part(kind: type[P], recipe: Recipe) -> P:
    return kind(**{part.name: getattr(recipe, part.name) for part in dataclasses.fields(kind)})


def read_digests(run: Path) -> Digests | None:
    """The digests of a baseline; None if it has none, and for any other run.

    Raises:
        RecordsError: the file is not valid.
    """
    path = run / DIGESTS
    if not path.exists():
        return None
    todo = "Take the file from the commit that added the baseline, or remove it."
    return read_record(TypeAdapter(Digests), path, name="the digests of a baseline", todo=todo)


def write_digests(run: Path, digests: Digests) -> None:
    """Write the digests of a baseline into its directory."""
    write_atomically(run / DIGESTS, json.dumps(dataclasses.asdict(digests), indent=1, sort_keys=True) + "\n")
