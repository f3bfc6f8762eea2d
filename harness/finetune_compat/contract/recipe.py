"""Everything an observation depends on, and its address. Standard library only: both sides use it.

What is not here does not change an observation, or not what is judged of it: the checks and the ledger (they judge it
again), the limit of a cell (one that exceeds it leaves no observation), the order of cells, the number of threads and
the CPU's model (they move the last digits of a loss).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_compat.contract.records import SCHEMA, DeviceKind, Observation

TINY = "tiny"
"""`Recipe.model` of cells that build their model: it follows from `sources` and `given`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What one observation depends on."""

    cell: str
    """The cell's full id: stack with its Python, flow, variant and kind of device."""
    lock_sha256: str
    python: str
    """In full, such as `3.11.7`."""
    torch: str
    """The installed one, with its build, such as `2.13.0+cpu`."""
    base_torch: bool
    beside: tuple[str, ...] = ()
    """What is installed beside the lock and torch, such as `triton 3.7.0`: what a CUDA build brings computes, and is in
    no lock. None with a CPU build; an address then says nothing of it.
    """
    device: str
    """The GPU's name; on a CPU the machine's architecture."""
    features: tuple[str, ...]
    """What changes what a library does, as `DeviceRecord.features`."""
    sources: str
    """sha256 over the files of this project that run inside the cell."""
    given: str
    """sha256 over what the catalog gives the cell: sizes, LoRA configuration, learning rates; not what is expected."""
    model: str
    """`tiny`, or `sha256:` and the digest of the directory of real weights."""
    steps: int
    seed: int
    attention: str
    handicap: str | None
    deep: bool
    """Whether the deep tier was asked for. A deep observation does not answer a quick request, which would then be
    judged by checks it did not ask for.
    """
    schema: int = SCHEMA
    """Of the observation."""

    @property
    def address(self) -> str:
        """sha256 of the recipe as canonical JSON (keys sorted, no blanks), in hexadecimal."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def addresses(self, cells: Iterable[str]) -> dict[str, str]:
        """Addresses of recipes that are this one but for their cells, by cell: what is equal is written once."""
        own = f'"cell":{_CANONICAL(self.cell)},'
        head, _, tail = self._canonical().partition(own)
        return {cell: hashlib.sha256(f'{head}"cell":{_CANONICAL(cell)},{tail}'.encode()).hexdigest() for cell in cells}

    def _canonical(self) -> str:
        return _CANONICAL(to_dict(self))


_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(Recipe)))

_CANONICAL = json.JSONEncoder(separators=(",", ":")).encode
"""Made once: thousands of addresses are worked out at every start."""


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON can hold it, keys sorted. `beside` is left out where it is empty, as with any CPU build."""
    return {name: getattr(recipe, name) for name in _FIELDS if name != "beside" or recipe.beside}


def from_dict(raw: Mapping[str, Any]) -> Recipe:
    """The recipe in `raw`.

    Raises:
        TypeError, KeyError: a field is missing, or there is one this harness does not know.
    """
    return Recipe(**{**raw, "features": tuple(raw["features"]), "beside": tuple(raw.get("beside", ()))})


def contradiction(recipe: Recipe, seen: Observation) -> str:
    """What `seen` says that `recipe` does not, such as `torch 2.14.0, expected 2.13.0+cpu`; empty if they agree.

    The host wrote the recipe without importing the stack; the observation is what was found inside it.
    """
    pairs: dict[str, tuple[Any, Any]] = {
        "cell": (seen.cell, recipe.cell),
        "lock": (seen.stack.lock_sha256, recipe.lock_sha256),
        "Python": (seen.stack.python, recipe.python),
        "torch": (seen.stack.resolved.get("torch"), recipe.torch),
        "another torch": (seen.stack.base_torch, recipe.base_torch),
        "features": (tuple(seen.device.features), recipe.features),
        "seed": (seen.seed, recipe.seed),
        "handicap": (seen.handicap, recipe.handicap),
        "schema": (seen.schema, recipe.schema),
    }
    if seen.device.kind is DeviceKind.CUDA:
        pairs["device"] = (seen.device.name, recipe.device)
    if seen.attention is not None:
        pairs["attention"] = (seen.attention.asked, recipe.attention)
    if seen.training is not None:
        pairs["steps"] = (seen.training.steps, recipe.steps)
    return "; ".join(f"{what} {found}, expected {asked}" for what, (found, asked) in pairs.items() if found != asked)
