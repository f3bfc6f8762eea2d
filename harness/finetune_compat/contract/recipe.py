"""Everything an observation depends on, and its address. Standard library only, because both sides use it.

A recipe leaves out what does not change an observation or its verdict:

- the checks and the ledger, because they judge stored observations again
- the limit of a cell, because a cell that exceeds it has no observation
- the order of cells, the number of threads and the CPU model, because they change only the last digits of a loss
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune_compat.contract.records import SCHEMA, DeviceKind

TINY = "tiny"
"""`Recipe.model` of cells with a tiny model: `sources` and `given` determine the model."""

SCRIPT = "script"
"""`Recipe.model` of a user's script: `given` has its content. Its observation is a `contract.script.Pipeline`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything one observation depends on."""

    cell: str
    """The full cell id: stack with its Python version, flow, variant and device kind."""
    lock_sha256: str
    python: str
    """The full version (example: `3.11.7`)."""
    torch: str
    """The installed version with its build (example: `2.13.0+cpu`)."""
    base_torch: bool
    beside: tuple[str, ...] = ()
    """Packages that are neither in the lock nor torch (example: `triton 3.7.0`). A CUDA build of torch brings them, and
    they compute. Empty with a CPU build; then the address does not contain this field.
    """
    device: str
    """The GPU's name; on a CPU the machine's architecture."""
    features: tuple[str, ...]
    """The same as `DeviceRecord.features`."""
    sources: str
    """sha256 of the files of this project that run inside the cell, or that watch the script."""
    given: str
    """sha256 of the catalog values of the cell: sizes, LoRA configuration, learning rates; without expectations. Of a
    script: its bytes, its arguments, and the files and variables that they name.
    """
    model: str
    """`tiny`, `script`, or `sha256:` followed by the digest of the directory of real weights."""
    steps: int
    seed: int
    attention: str
    handicap: str | None
    deep: bool
    """Whether the deep tier was requested. A deep observation is no cache hit for a quick request, because more checks
    would then judge it than requested.
    """
    schema: int = SCHEMA
    """Schema version of the observation."""

    @property
    def address(self) -> str:
        """sha256 of the recipe as canonical JSON (keys sorted, no blanks), in hexadecimal."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def addresses(self, cells: Iterable[str]) -> dict[str, str]:
        """Addresses, by cell, of recipes that differ from this one only in the cell. Common JSON is encoded once."""
        own = f'"cell":{_CANONICAL(self.cell)},'
        head, _, tail = self._canonical().partition(own)
        return {cell: hashlib.sha256(f'{head}"cell":{_CANONICAL(cell)},{tail}'.encode()).hexdigest() for cell in cells}

    def _canonical(self) -> str:
        return _CANONICAL(to_dict(self))


_FIELDS = tuple(sorted(field.name for field in dataclasses.fields(Recipe)))

_CANONICAL = json.JSONEncoder(separators=(",", ":")).encode
"""Created once, because every start computes thousands of addresses."""


def to_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-compatible data, keys sorted. `beside` is left out if empty, as with a CPU build."""
    return {name: getattr(recipe, name) for name in _FIELDS if name != "beside" or recipe.beside}


def from_dict(raw: Mapping[str, Any]) -> Recipe:
    """The recipe in `raw`.

    Raises:
        TypeError, KeyError: a field is missing or unknown.
    """
    return Recipe(**{**raw, "features": tuple(raw["features"]), "beside": tuple(raw.get("beside", ()))})


def contradiction(recipe: Recipe, seen: Mapping[str, Any]) -> str:
    """The differences between `seen` and `recipe` (example: `torch 2.14.0, expected 2.13.0+cpu`); empty if they agree.

    The host writes the recipe without importing the stack. The observation records what was found inside the stack.

    Args:
        recipe: what the observation depends on.
        seen: the observation as parsed JSON.

    Raises:
        KeyError, TypeError, AttributeError: `seen` is not an observation.
    """
    stack, device, resolved = seen["stack"], seen["device"], seen["stack"]["resolved"]
    pairs: dict[str, tuple[Any, Any]] = {
        "lock": (stack["lock_sha256"], recipe.lock_sha256),
        "Python": (stack["python"], recipe.python),
        "torch": (resolved.get("torch"), recipe.torch),
        "features": (tuple(device["features"]), recipe.features),
        "schema": (seen["schema"], recipe.schema),
    }
    if device["kind"] == DeviceKind.CUDA:
        pairs["device"] = (device["name"], recipe.device)
    pairs |= _of_script(recipe, seen) if recipe.model == SCRIPT else _of_cell(recipe, seen)
    return "; ".join(f"{what} {found}, expected {asked}" for what, (found, asked) in pairs.items() if found != asked)


def _of_cell(recipe: Recipe, seen: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    pairs = {
        "cell": (seen["cell"], recipe.cell),
        "another torch": (seen["stack"]["base_torch"], recipe.base_torch),
        "seed": (seen["seed"], recipe.seed),
        "handicap": (seen["handicap"], recipe.handicap),
    }
    if seen["attention"] is not None:
        pairs["attention"] = (seen["attention"]["asked"], recipe.attention)
    if seen["training"] is not None:
        pairs["steps"] = (seen["training"]["steps"], recipe.steps)
    return pairs


def _of_script(recipe: Recipe, seen: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    cell = f"{seen['stack']['name']}/{seen['script']}@{seen['device']['kind']}"
    return {"script": (cell, recipe.cell), "steps": (seen["steps"], recipe.steps)}
