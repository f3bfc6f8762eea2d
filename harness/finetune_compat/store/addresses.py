"""The recipes of a plan's cells, from files on disk: without importing a stack or starting a process. Host side."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from finetune_compat.contract.catalog import Handicap, flow_named
from finetune_compat.contract.errors import InstallError
from finetune_compat.contract.plan import Plan, PlannedCell
from finetune_compat.contract.recipe import TINY, Recipe
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine import cpu
from finetune_compat.machine.gpus import Gpu
from finetune_compat.machine.places import places
from finetune_compat.stacks import real_weights
from finetune_compat.stacks.environments import SEEDS
from finetune_compat.stacks.locks import Lock
from finetune_compat.store.directories import digest
from finetune_compat.store.sources import Sources, sources


@dataclass(frozen=True, slots=True)
class Installed:
    """What an environment contains in addition to its lock."""

    python: str
    """The full Python version, for example `3.11.7`."""
    torch: str
    """With its build, for example `2.13.0+cpu`."""
    triton: bool
    beside: tuple[str, ...] = ()
    """Packages other than the lock and torch, for example `triton 3.7.0`. They are dependencies of torch."""


def installed(env_python: Path, lock: Lock) -> Installed:
    """The contents of the virtual environment of `env_python`, made from `lock`, read from its files.

    Raises:
        InstallError: it is not an environment with torch.
    """
    root = env_python.parent.parent
    version = _version(root / "pyvenv.cfg")
    folders = [*root.glob("lib/python3.*/site-packages"), root / "lent-torch"]
    there = [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]
    # In import order: an installed torch precedes the linked torch of another Python.
    torch = [name for name in there if name.startswith("torch-") and name.endswith(".dist-info")]
    if version is None or not torch:
        raise InstallError(
            "this is not an environment with torch",
            where=str(root),
            meaning="The environment was never made, or its installation was interrupted.",
            todo="Run the stack's session, which makes the environment.",
        )
    versions = dict(_named(name) for name in there if name.endswith(".dist-info"))
    return Installed(version, _named(torch[0])[1], "triton" in there, beside(versions, lock))


def beside(versions: Mapping[str, str], lock: Lock) -> tuple[str, ...]:
    """The packages that are neither torch, nor locked, nor in `SEEDS`, each as `name version`."""
    known = lock.requirements.keys() | SEEDS | {"torch"}
    return tuple(sorted(f"{name} {version}" for name, version in versions.items() if name not in known))


def _named(folder: str) -> tuple[str, str]:
    """Name and version of a folder such as `nvidia_cublas-13.1.0.3.dist-info`."""
    name, _, version = folder.removesuffix(".dist-info").rpartition("-")
    return canonicalize_name(name), version


def _version(config: Path) -> str | None:
    """Python's version in `pyvenv.cfg`: uv and virtualenv write `version_info`, venv writes `version`."""
    try:
        lines = config.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    found = fields.get("version_info") or fields.get("version")
    return None if found is None else ".".join(found.split(".")[:3])


def recipes(
    plan: Plan, environment: Installed, gpus: Sequence[Gpu] = (), *, of: Sources | None = None
) -> Mapping[str, Recipe]:
    """Recipes by cell id, in the plan's order.

    Empty if the results cannot be cached: for real weights named by a hub id, whose commit is not known before the
    download (with a directory in `--model` they can be cached), and for a run on different kinds of GPU.

    Args:
        plan: the cells.
        environment: the contents of their environment.
        gpus: the GPUs they run on; without any, the CPU.
        of: the sources; by default those of this checkout.
    """
    shared = _shared(plan, environment, gpus)
    found = of or sources()
    if shared is None:
        return {}
    return {cell: _recipe(shared, plan, planned, found, cell) for cell, planned in _by_id(plan)}


def addresses(
    plan: Plan, environment: Installed, gpus: Sequence[Gpu] = (), *, of: Sources | None = None
) -> Mapping[str, str]:
    """Addresses by cell id: those of `recipes`, in less time, because most fields are the same for many cells."""
    shared = _shared(plan, environment, gpus)
    found = of or sources()
    if shared is None:
        return {}
    alike: dict[tuple[str, str, Handicap | None, bool], list[tuple[str, PlannedCell]]] = {}
    for cell, planned in _by_id(plan):
        key = (planned.flow, planned.variant.model, planned.handicap, planned.deep)
        alike.setdefault(key, []).append((cell, planned))
    by_cell: dict[str, str] = {}
    for (first, planned), *rest in alike.values():
        recipe = _recipe(shared, plan, planned, found, first)
        by_cell |= recipe.addresses([first, *(cell for cell, _ in rest)])
    return by_cell


def _by_id(plan: Plan) -> list[tuple[str, PlannedCell]]:
    return [(plan.id_of(cell), cell) for cell in plan.cells]


def _shared(plan: Plan, environment: Installed, gpus: Sequence[Gpu]) -> Recipe | None:
    """The fields that all recipes of a plan share; None if the plan's results cannot be cached."""
    model = _model(plan)
    names = {gpu.name for gpu in gpus}
    if model is None or (plan.device is DeviceKind.CUDA and len(names) != 1):
        return None
    return Recipe(
        cell="",
        lock_sha256=plan.lock_sha256,
        python=environment.python,
        torch=environment.torch,
        base_torch=plan.base_torch,
        beside=environment.beside,
        device=names.pop() if plan.device is DeviceKind.CUDA else platform.machine(),
        features=cpu.features(plan.device, triton=environment.triton),
        sources="",
        given="",
        model=model,
        steps=plan.steps,
        seed=plan.seed,
        attention=plan.attention,
        handicap=None,
        deep=False,
    )


def _recipe(shared: Recipe, plan: Plan, cell: PlannedCell, found: Sources, name: str) -> Recipe:
    flow, real = flow_named(cell.flow), plan.model is not None
    return dataclasses.replace(
        shared,
        cell=name,
        sources=found.digest(flow, real=real),
        given=found.given(flow, cell.variant.model, real=real),
        handicap=cell.handicap,
        deep=cell.deep,
    )


def addressed(plan: Plan, wanted: Mapping[str, Recipe], store: Path, *, of: Sources | None = None) -> Plan:
    """`plan` with the data that cells need to write their observations into the store at `store`."""
    found = of or sources()
    flows = [flow_named(name) for name in {cell.flow for cell in plan.cells}]
    modules = {name for flow in flows for name in found.modules(flow, real=plan.model is not None)}
    cells = tuple(dataclasses.replace(cell, recipe=wanted.get(plan.id_of(cell))) for cell in plan.cells)
    return dataclasses.replace(plan, cells=cells, store=str(store), modules=tuple(sorted(modules)))


def _model(plan: Plan) -> str | None:
    if plan.model is None:
        return TINY
    return None if real_weights.from_hub(plan.model) else f"sha256:{digest(Path(plan.model), places().store)}"
