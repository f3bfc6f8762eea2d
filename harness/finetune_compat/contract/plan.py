"""The plan of a cell process: one JSON file from the host to the cell side. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.catalog import Handicap
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.recipe import Recipe, from_dict
from finetune_compat.contract.records import Area, DeviceKind, Precision, Stage, Variant
from finetune_compat.contract.verdict import Deviation, Kind, Symptom

WORKERS = "workers"
"""Folder in the run's directory with the number of workers of each stack that may have more than one."""

UNKEPT = "unkept"
"""Folder in the run's directory with the observations of each stack that could not be cached, and why."""

APART = (
    "finetune_compat",  # the version, and names for users' training code
    "finetune_compat.contract.catalog",  # counted by value
    "finetune_compat.cell.fixtures",  # for users' tests
    "finetune_compat.cell.forking",
    "finetune_compat.cell.gpus",
    "finetune_compat.cell.own_time",
    "finetune_compat.cell.storing",
    "finetune_compat.cell.plugin",
    "finetune_compat.cell.session",
    "finetune_compat.cell.worker_limits",
    "finetune_compat.checks",
    "finetune_compat.contract.cell_id",
    "finetune_compat.contract.closed_forms",  # what checks expect
    "finetune_compat.contract.errors",
    "finetune_compat.contract.foreign_text",
    "finetune_compat.machine.child_processes",
    "finetune_compat.machine.files",
    "finetune_compat.machine.foreign",
    "finetune_compat.machine.wheel_records",
    "finetune_compat.contract.plan",
    "finetune_compat.contract.recipe",
    "finetune_compat.contract.verdict",
    "finetune_compat.store",
)
"""Modules that a cell process loads but that measure nothing: they judge, format, store, or distribute cells. Their
submodules are included, except for the first entry.
"""


def apart(module: str) -> bool:
    """Whether `module` measures nothing."""
    return module == "finetune_compat" or any(module == name or module.startswith(f"{name}.") for name in APART[1:])


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """One cell to run, and the deviations listed for it."""

    flow: str
    variant: Variant
    listed: tuple[Deviation, ...]
    deep: bool = False
    """Whether the deep tier measures the cell."""
    handicap: Handicap | None = None
    """The change that prevents learning; None except in the calibration of the learning test."""
    recipe: Recipe | None = None
    """The recipe under which the observation is cached; None: it is not cached."""
    stored: bool = False
    """Whether the observation is cached, so the cell does not run."""

    def __str__(self) -> str:
        return f"{self.flow}[{self.variant}]"


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of one stack, and the facts about the stack that every observation records."""

    run: str
    """Directory of the run. Cells append to its `observations.jsonl`."""
    stack: str
    """Name with the Python version (example: `trl0.22-py311`)."""
    lock_sha256: str
    torch_wanted: str
    base_torch: bool
    device: DeviceKind
    attention: str
    """Attention implementation of the models, by Transformers' name."""
    steps: int
    seed: int
    limit_s: float
    """Time limit of a cell in seconds. A cell that takes longer is killed, and recorded as infrastructure."""
    cells: tuple[PlannedCell, ...]
    memory_limit: int | None = None
    """Resident memory in bytes. A cell whose process holds more is killed, and recorded as infrastructure."""
    model: str | None = None
    """Real weights to train in every cell, a directory or a hub id; None: the tiny models of the cells' variants."""
    store: str | None = None
    """Directory of the local store for the observations; None: nothing is cached."""
    modules: tuple[str, ...] = ()
    """Modules of this project whose contents are part of the recipes."""

    def id_of(self, cell: PlannedCell) -> str:
        """The cell's full id."""
        return str(CellId(self.stack, cell.flow, str(cell.variant), self.device))

    @property
    def selected_file(self) -> Path:
        """File in which the cell process writes the ids of the selected cells, one per line."""
        return Path(self.run) / "selected" / f"{self.stack}.txt"

    @property
    def unkept_file(self) -> Path:
        """File in which cells write why their observations are not cached, one reason per line."""
        return Path(self.run) / UNKEPT / f"{self.stack}.txt"

    @property
    def workers_file(self) -> Path:
        """File in which the host writes the number of workers of the stack, if more than one."""
        return workers_file(Path(self.run), self.stack)

    def workers(self) -> int:
        """The number of workers of the stack."""
        try:
            return int(self.workers_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 1

    @property
    def faults_file(self) -> Path:
        """File in which tests of planted faults write which check reported each fault, one per line."""
        return Path(self.run) / "faults" / f"{self.stack}.jsonl"

    @property
    def independent_faults_file(self) -> Path:
        """File in which tests of independent faults write the verdict on each fault, one per line."""
        return Path(self.run) / "independent-faults" / f"{self.stack}.jsonl"

    @property
    def branches_file(self) -> Path:
        """File in which the cell process writes which device-dependent branches its cells took."""
        return Path(self.run) / "branches" / f"{self.stack}.json"

    @property
    def scratch(self) -> Path:
        """Folder for models and outputs of cells. The process that distributes cells removes it (`machine.scratch`)."""
        return Path(self.run) / "scratch" / self.stack

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def workers_file(run: Path, stack: str) -> Path:
    """File with the number of workers of `stack` in `run`."""
    return run / WORKERS / f"{stack}.txt"


def read_plan(path: Path) -> Plan:
    """The plan in `path`. It is not validated, because the host wrote it."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    cells = tuple(_planned(cell) for cell in raw.pop("cells"))
    typed = {"device": DeviceKind(raw["device"]), "cells": cells, "modules": tuple(raw["modules"])}
    return Plan(**{**raw, **typed})


def _planned(raw: dict[str, Any]) -> PlannedCell:
    handicap = Handicap(raw["handicap"]) if raw["handicap"] else None
    listed = tuple(_deviation(item) for item in raw["listed"])
    recipe = from_dict(raw["recipe"]) if raw["recipe"] else None
    return PlannedCell(raw["flow"], _variant(raw["variant"]), listed, raw["deep"], handicap, recipe, raw["stored"])


def _variant(raw: dict[str, str | bool]) -> Variant:
    return Variant(str(raw["model"]), Precision(str(raw["precision"])), bool(raw["gradient_checkpointing"]))


def _deviation(raw: dict[str, Any]) -> Deviation:
    named = {"symptom": Symptom, "stage": Stage, "area": Area, "kind": Kind}
    values = {field: of(raw[field]) if raw[field] else None for field, of in named.items()}
    return Deviation(**{**raw, **values})
