"""What a cell process is asked to do, handed from host to cell as one JSON file. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract.catalog import Handicap
from finetune_compat.contract.cell_id import CellId
from finetune_compat.contract.recipe import Recipe, from_dict
from finetune_compat.contract.records import DeviceKind, Precision, Variant
from finetune_compat.contract.verdict import Deviation, Symptom

WORKERS = "workers"
"""In the run's directory: how many workers each stack has, where it is more than one."""

APART = (
    "finetune_compat",  # its version, and names for users' own training
    "finetune_compat.contract.catalog",  # counted by value
    "finetune_compat.cell.fixtures",  # for users' own tests
    "finetune_compat.cell.gpus",
    "finetune_compat.cell.storing",
    "finetune_compat.cell.plugin",
    "finetune_compat.cell.session",
    "finetune_compat.cell.worker_limits",
    "finetune_compat.checks",
    "finetune_compat.contract.cell_id",
    "finetune_compat.contract.closed_forms",  # what checks expect
    "finetune_compat.contract.errors",
    "finetune_compat.machine.child_processes",
    "finetune_compat.machine.files",
    "finetune_compat.contract.plan",
    "finetune_compat.contract.recipe",
    "finetune_compat.contract.verdict",
    "finetune_compat.store",
)
"""Modules that are loaded in a cell process and measure nothing: they judge, word, keep, or hand cells out. Those below
them are meant too, but for the first, which is meant alone.
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
    """Run it again in the ways of the deep tier."""
    handicap: Handicap | None = None
    """What is to keep it from learning; None but where the learning test is calibrated."""
    recipe: Recipe | None = None
    """What its observation is kept by; None: it is not kept."""
    stored: bool = False
    """The store has its observation: it is not to run."""

    def __str__(self) -> str:
        return f"{self.flow}[{self.variant}]"


@dataclass(frozen=True, slots=True)
class Plan:
    """The cells of one stack, and what every observation says of that stack."""

    run: str
    """Directory of the run; `observations.jsonl` in it is appended to."""
    stack: str
    """Name with its Python, such as `trl0.22-py311`."""
    lock_sha256: str
    torch_wanted: str
    base_torch: bool
    device: DeviceKind
    attention: str
    """Attention implementation models are loaded with, by Transformers' name."""
    steps: int
    seed: int
    limit_s: float
    """A cell that takes longer is killed, and recorded as infrastructure."""
    cells: tuple[PlannedCell, ...]
    memory_limit: int | None = None
    """Bytes of resident memory; a cell whose process holds more is ended, and recorded as infrastructure."""
    model: str | None = None
    """Real weights to train in every cell, a directory or a hub id; None: the tiny models of the cells' variants."""
    store: str | None = None
    """Directory of the local store, in which cells keep their observations; None: they do not."""
    modules: tuple[str, ...] = ()
    """Modules of this project whose contents the recipes count."""

    def id_of(self, cell: PlannedCell) -> str:
        """The cell's full id."""
        return str(CellId(self.stack, cell.flow, str(cell.variant), self.device))

    @property
    def selected_file(self) -> Path:
        """Where the cell process writes which cells were selected, one id per line."""
        return Path(self.run) / "selected" / f"{self.stack}.txt"

    @property
    def unkept_file(self) -> Path:
        """Where cells write why the store does not take what they observed, one a line."""
        return Path(self.run) / "unkept" / f"{self.stack}.txt"

    @property
    def workers_file(self) -> Path:
        """Where the host writes how many workers the stack has, if it has more than one."""
        return workers_file(Path(self.run), self.stack)

    def workers(self) -> int:
        """How many workers the stack has."""
        try:
            return int(self.workers_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 1

    @property
    def faults_file(self) -> Path:
        """Where tests that plant faults write which check named each, one a line."""
        return Path(self.run) / "faults" / f"{self.stack}.jsonl"

    @property
    def scratch(self) -> Path:
        """Where cells put models and outputs; the process that hands them out removes it (`machine.scratch`)."""
        return Path(self.run) / "scratch" / self.stack

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def workers_file(run: Path, stack: str) -> Path:
    """Where the host writes how many workers `stack` has in `run`."""
    return run / WORKERS / f"{stack}.txt"


def read_plan(path: Path) -> Plan:
    """The plan in `path`, which the host wrote: it is trusted, not checked."""
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


def _deviation(raw: dict[str, str | None]) -> Deviation:
    symptom = raw.pop("symptom")
    return Deviation(**raw, symptom=Symptom(symptom) if symptom else None)  # type: ignore[arg-type]  # host wrote it
