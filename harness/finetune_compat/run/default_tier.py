"""The default tier: the cells that tell the measured releases apart, from `matrices/default-tier.json`.

`compat known` derives the file from the committed baselines: of all cells with the same verdicts on every measured
stack, the shortest. What the baselines do not hold runs whole: a tier that is chosen from history misses what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from finetune_compat.contract.catalog import flow_named
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.places import PACKAGE, places
from finetune_compat.machine.record_files import read_record

FILE = "default-tier.json"


@dataclass(frozen=True, slots=True)
class DefaultTier:
    """What the file holds."""

    locks: frozenset[str]
    """sha256 of the locks that the baselines were measured with."""
    flows: dict[str, str]
    """Digest of the file of each measured flow, as it is today."""
    cells: frozenset[str]
    """The chosen cells, such as `sft-full[qwen2-full-gc]`."""
    device: DeviceKind = DeviceKind.CPU
    """The device that the baselines were measured on."""

    def kept(self, cells: Sequence[PlannedCell], lock_sha256: str, device: DeviceKind) -> tuple[PlannedCell, ...]:
        """The cells of the default tier on a stack with this lock: all, if the baselines do not hold the lock and the
        device, and all cells of a flow that is new or was edited.
        """
        if lock_sha256 not in self.locks or device is not self.device:
            return tuple(cells)
        changed = {flow for flow in {cell.flow for cell in cells} if self.flows.get(flow) != digest(flow)}
        return tuple(cell for cell in cells if cell.flow in changed or str(cell) in self.cells)


@cache
def digest(flow: str) -> str:
    """The sha256 of the file of `flow`."""
    file = PACKAGE.parent.joinpath(*flow_named(flow).module.split(".")).with_suffix(".py")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def default_tier(path: Path | None = None) -> DefaultTier:
    """The default tier of `path`, or of this project's matrix.

    Raises:
        RecordsError: the file is missing or invalid.
    """
    return read_record(
        TypeAdapter(DefaultTier),
        path or places().matrices / FILE,
        name="a default tier",
        todo="Make it again: compat known. Until then, --tier full runs every cell.",
    )


def to_json(tier: DefaultTier) -> str:
    """The content of the file."""
    lists = {"locks": sorted(tier.locks), "flows": dict(sorted(tier.flows.items())), "cells": sorted(tier.cells)}
    return json.dumps(lists, indent=1) + "\n"
