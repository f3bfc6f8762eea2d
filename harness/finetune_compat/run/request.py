"""A request to `compat run`: the selected cells, their store addresses, and their cached observations."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import Version

from finetune_compat.checks.ledger import Ledger
from finetune_compat.contract.catalog import Tier
from finetune_compat.contract.cell_id import EXAMPLE, parse_cell
from finetune_compat.contract.errors import CompatError, InstallError
from finetune_compat.contract.options import EngineChoice
from finetune_compat.contract.plan import Plan
from finetune_compat.contract.records import DeviceKind, Variant
from finetune_compat.machine.gpus import Gpu, kind_of
from finetune_compat.machine.places import places
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run import replay, stack_run
from finetune_compat.run.options import RunOptions
from finetune_compat.run.selection import AskedCells, On, cells_of, stacks_of
from finetune_compat.stacks.environments import lender_of, python_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.supply import Supply
from finetune_compat.store.addresses import Installed, addresses, installed
from finetune_compat.store.predicted import predict
from finetune_compat.store.sources import sources
from finetune_compat.store.store import Store

WHERE = "compat run"
"""The `where` of errors in a request."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One call of `compat run`."""

    asked: AskedCells = field(default_factory=AskedCells)
    python: str = "3.11"
    budget_s: float | None = None
    retries: int = 0
    """Maximum number of retries of cells lost to infrastructure failures."""
    jobs: int | None = None
    engine: EngineChoice = EngineChoice.NOX
    address: str | None = None
    """Address of the Ray cluster; None: RAY_ADDRESS, or else a Ray on this machine."""
    options: RunOptions = field(default_factory=RunOptions)
    """Options of the sessions."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected cells."""

    stacks: Mapping[str, On]
    """Installable stacks by name."""
    absent: tuple[StackRow, ...]
    """Rows of the stacks that cannot be installed."""
    cells: tuple[str, ...]
    """Ids, in the order of the matrix and the catalog."""
    addresses: Mapping[str, str]
    """Store addresses by cell, for stacks whose environment exists or can be predicted."""
    variants: Mapping[str, tuple[str, Variant]]
    """Flow and variant, by cell."""
    gpus: tuple[Gpu, ...]
    """GPUs to run on; empty for the CPU."""
    left_out: int = 0
    """Number of cells of these stacks that only the full tier has."""

    @property
    def device(self) -> DeviceKind:
        """The device of the cells."""
        return kind_of(self.gpus)

    @property
    def rows(self) -> dict[str, tuple[str, ...]]:
        """The cells of each stack."""
        found: dict[str, list[str]] = {name: [] for name in self.stacks}
        for cell in self.cells:
            found[parse_cell(cell).stack].append(cell)
        return {name: tuple(cells) for name, cells in found.items() if cells}


def select(request: RunRequest, gpus: Sequence[Gpu], *, always: bool = False) -> Selection:
    """Select the requested cells, and calculate their store addresses.

    Args:
        request: what was asked for.
        gpus: the GPUs to run on; empty for the CPU.
        always: whether to predict missing environments even if the store is empty, so that no cell is cached.

    Raises:
        CompatError: a name is invalid, a lock is stale, or nothing matches.
    """
    matrix, device = read_matrix(), kind_of(gpus)
    stacks: dict[str, On] = {}
    absent: list[StackRow] = []
    cells: list[str] = []
    by_cell: dict[str, str] = {}
    variants: dict[str, tuple[str, Variant]] = {}
    left_out = 0
    for on in stacks_of(matrix, request.asked, request.python):
        lock = locked(matrix.plan(on.stack, on.python, device))
        if isinstance(lock, Unsolvable):
            absent.append(StackRow(on.name, RowState.UNINSTALLABLE, lock.cause, ()))
            continue
        # An empty ledger: addresses do not depend on listed issues, and looking them up takes a second for a matrix.
        plan = stack_run.plan_of(on.name, lock, request.options, Ledger(issues=()), device, base_torch=False)
        if request.options.tier is Tier.DEFAULT:
            left_out += len(stack_run.all_cells(lock, device)) - len(plan.cells)
        plan = dataclasses.replace(plan, cells=cells_of(plan.cells, request.asked))
        stacks[on.name] = on
        for cell in plan.cells:
            cells.append(plan.id_of(cell))
            variants[cells[-1]] = (cell.flow, cell.variant)
        # nox has its own environments; the nodes of a cluster have those of the commands that run without nox.
        python = env_python(on) if request.engine is EngineChoice.NOX else python_of(lock)
        by_cell |= _addresses(plan, on, lock, python, gpus, request.options, always=always)
    if not cells and not absent:
        raise CompatError(
            "no cell matches",
            where=f"-k {request.asked.words!r}" if request.asked.words else WHERE,
            meaning=f"A cell's name looks like {EXAMPLE}.",
            todo="Use fewer filters: stacks, --axis, --flows, --variants or -k.",
        )
    return Selection(stacks, tuple(absent), tuple(cells), by_cell, variants, tuple(gpus), left_out)


def _addresses(
    plan: Plan, on: On, lock: Lock, python: Path, gpus: Sequence[Gpu], options: RunOptions, *, always: bool
) -> Mapping[str, str]:
    """Addresses by cell. Empty if the environment does not exist and its contents cannot be predicted: then the session
    looks its cells up in the store itself.
    """
    environment = _environment(python, lock, options.supply)
    if environment is None and not options.fresh and (always or Store.configured().holds_anything):
        predicted = predict(on.python, plan.torch_wanted, options.supply)
        environment = None if predicted is None else predicted.installed(lock)
    if environment is None:
        return {}
    other = Version(environment.torch).base_version != Version(plan.torch_wanted).base_version
    return addresses(dataclasses.replace(plan, base_torch=other), environment, gpus, of=sources())


def _environment(python: Path, lock: Lock, supply: Supply) -> Installed | None:
    """The contents of the existing environment; None if it must be created or recreated."""
    try:
        if lender_of(python) != (None if supply.base is None else supply.base.executable):
            return None
        return installed(python, lock)
    except InstallError:
        return None


def env_python(on: On, environments: Path | None = None) -> Path:
    """The interpreter of the environment that nox makes for a session."""
    return (environments or places().nox) / re.sub(r"[^a-zA-Z0-9]+", "-", on.session).strip("-") / "bin" / "python"


def stored_files(store: Store, selection: Selection) -> dict[str, str]:
    """The names of the store files of each cached cell."""
    names = store.names(selection.addresses.values())
    return {cell: " ".join(sorted(names[address])) for cell, address in selection.addresses.items() if address in names}


def stored_lines(store: Store, selection: Selection, cells: Iterable[str]) -> dict[str, str]:
    """The cached observation of each of `cells` that has a complete one."""
    addresses = {cell: selection.addresses[cell] for cell in cells}
    found = store.read(addresses.values())
    return {cell: found[address].line for cell, address in addresses.items() if address in found}


def question(selection: Selection, files: Mapping[str, str]) -> str:
    return replay.question(
        [(cell, selection.addresses[cell], files[cell]) for cell in selection.cells], selection.absent
    )
