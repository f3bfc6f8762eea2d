"""Recipes and stored observations for the tests of the store."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import NF4, UNLISTED, VERSIONS, healthy
from finetune_compat import cli
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import DeviceKind, Observation, to_json
from finetune_compat.run import stack_run
from finetune_compat.store.addresses import Installed
from finetune_compat.store.store import Store
from finetune_compat.store.stored_files import Stored

OLD, NEW = "2020-01-01T00:00:00.000000+00:00", "2099-01-01T00:00:00.000000+00:00"
FLOW = "sft-peft-config"


def seen(**changes: object) -> Observation:
    """A healthy observation."""
    return replace(healthy(FLOW, NF4), **changes)  # type: ignore[arg-type]


def recipe_of(observation: Observation, **changes: object) -> Recipe:
    """The recipe that `observation` agrees with."""
    recipe = Recipe(
        cell=observation.cell,
        lock_sha256=observation.stack.lock_sha256,
        python=observation.stack.python,
        torch=observation.stack.resolved["torch"],
        base_torch=observation.stack.base_torch,
        device="x86_64",
        features=observation.device.features,
        sources="a" * 64,
        given="b" * 64,
        model="tiny",
        steps=10,
        seed=observation.seed,
        attention="sdpa",
        handicap=None,
        deep=False,
    )
    return replace(recipe, **changes)  # type: ignore[arg-type]


def fitting(recipe: Recipe, observation: Observation) -> Observation:
    """The observation, as a cell of `recipe` would record it."""
    stack = replace(
        observation.stack,
        lock_sha256=recipe.lock_sha256,
        python=recipe.python,
        base_torch=recipe.base_torch,
        resolved={**observation.stack.resolved, "torch": recipe.torch},
    )
    device = replace(observation.device, features=recipe.features)
    return replace(observation, stack=stack, device=device, seed=recipe.seed)


def stored_object(
    observation: Observation | None = None, at: str = "2026-01-02T03:04:05.000006+00:00", **changes: object
) -> Stored:
    """An observation as the store holds it. `changes` apply to the recipe, and to the observation where it says the
    same.
    """
    what = observation or seen()
    recipe = recipe_of(what, **changes)
    line = to_json(fitting(recipe, what))
    return Stored(recipe=recipe, line=line, recorded_at=at, harness="0.1.0", outcome="pass")


def planned(run: object, *cells: PlannedCell) -> Plan:
    """A plan of `cells` on the stack of `seen`."""
    stack = seen().stack
    return Plan(
        run=str(run),
        stack=stack.name,
        lock_sha256=stack.lock_sha256,
        torch_wanted=stack.torch_wanted,
        base_torch=stack.base_torch,
        device=DeviceKind.CPU,
        attention="sdpa",
        steps=10,
        seed=0,
        limit_s=120.0,
        cells=cells or (PlannedCell(FLOW, NF4, ()),),
    )


def store() -> Store:
    """The store of the test."""
    return Store.configured()


def compat(*arguments: str) -> int:
    """Run one command and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main(("store", *arguments))
    return int(ended.value.code or 0)


ENVIRONMENT = Installed("3.11.7", "2.13.0+cpu", triton=False)


def whole_plan() -> Plan:
    """A plan of every cell of a CPU."""
    return planned("/runs/one", *stack_run.planned_cells(UNLISTED, DeviceKind.CPU, VERSIONS))
