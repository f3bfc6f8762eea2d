"""The default tier keeps the chosen cells of what the baselines hold, and everything else whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from builders import NF4, NF4_NOGC, NF4_PLAIN
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.plan import PlannedCell
from finetune_compat.contract.records import DeviceKind
from finetune_compat.run.default_tier import DefaultTier, default_tier, digest, to_json

LOCK = "5f" * 32
MODEL, CONFIG = "sft-peft-model", "sft-peft-config"
CELLS = (
    PlannedCell(MODEL, NF4, ()),
    PlannedCell(MODEL, NF4_NOGC, ()),
    PlannedCell(CONFIG, NF4, ()),
    PlannedCell(CONFIG, NF4_PLAIN, ()),
)
TIER = DefaultTier(
    locks=frozenset({LOCK}),
    flows={flow: digest(flow) for flow in (MODEL, CONFIG)},
    cells=frozenset({str(CELLS[0]), str(CELLS[3])}),
)


def test_the_chosen_cells_are_kept_in_their_order() -> None:
    """On a stack that was measured."""
    assert TIER.kept(CELLS, LOCK, DeviceKind.CPU) == (CELLS[0], CELLS[3])


@pytest.mark.parametrize(("lock", "device"), [("6a" * 32, DeviceKind.CPU), (LOCK, DeviceKind.CUDA)])
def test_a_release_or_a_device_that_was_not_measured_runs_whole(lock: str, device: DeviceKind) -> None:
    """A tier that is chosen from history misses what is new."""
    assert TIER.kept(CELLS, lock, device) == CELLS


@pytest.mark.parametrize("flows", [{CONFIG: digest(CONFIG)}, {MODEL: "0" * 64, CONFIG: digest(CONFIG)}])
def test_a_new_or_edited_flow_runs_whole(flows: dict[str, str]) -> None:
    """The others do not."""
    changed = dataclasses.replace(TIER, flows=flows)
    assert changed.kept(CELLS, LOCK, DeviceKind.CPU) == (CELLS[0], CELLS[1], CELLS[3])


def test_the_file_reads_as_it_was_written(tmp_path: Path) -> None:
    """Sorted, so that a change is a small difference."""
    (tmp_path / "tier.json").write_text(to_json(TIER))
    assert default_tier(tmp_path / "tier.json") == TIER


@pytest.mark.parametrize("text", [None, "", "{}", '{"locks": 1, "flows": {}, "cells": []}'])
def test_a_file_that_cannot_be_read_is_an_error_with_a_way_out(tmp_path: Path, text: str | None) -> None:
    """Never a run of fewer cells."""
    if text is not None:
        (tmp_path / "tier.json").write_text(text)
    with pytest.raises(RecordsError, match=r"compat known\. Until then, --tier full"):
        default_tier(tmp_path / "tier.json")
