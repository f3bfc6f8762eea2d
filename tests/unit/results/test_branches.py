"""Which device-dependent branches no cell took, from a committed record."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import builders as b
import pytest
from branch_builders import MODEL, TRACE
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.results.branches import Uncovered, covered_by_emulation, file_of, trace_of, uncovered


def test_a_branch_is_a_side_of_a_guard_that_a_gpu_decides() -> None:
    """Three guards have six sides: one that no cell took, one that a cell with emulation took alone."""
    assert uncovered(TRACE) == Uncovered(branches=6, untaken=1, emulated=1)


def test_without_guards_nothing_is_uncovered() -> None:
    """Also of accelerators of other makers."""
    others = dataclasses.replace(TRACE, guards=TRACE.guards[-1:])
    assert uncovered(others) == Uncovered(branches=0, untaken=0, emulated=0)


def test_what_a_cell_without_emulation_skips_is_taken_under_emulation() -> None:
    """By a cell of the same flow; a flow without such a cell is not named, nor a branch that nobody took."""
    found = [(o.guard.condition, o.side, o.flow, o.cells, o.emulated) for o in covered_by_emulation(TRACE)]
    assert found == [
        ("is_sharded_qlora", False, MODEL, ("qwen2-nf4-plain-gc",), ("qwen2-nf4-gc",)),
        ("emulated_alone", True, MODEL, ("qwen2-nf4-plain-gc",), ("qwen2-nf4-gc",)),
    ]


@pytest.fixture
def branches(tmp_path: Path, in_places: Any) -> Path:
    """The place for records."""
    in_places(checkout=tmp_path)
    folder = tmp_path / "reports" / "branches"
    folder.mkdir(parents=True)
    return folder


def test_a_record_counts_for_observations_of_its_lock_and_device(branches: Path) -> None:
    """Another lock is another stack of the same name; another kind of device has a file of its own."""
    seen = b.healthy()
    assert trace_of(seen) is None
    (branches / "trl0.24-py311.json").write_text(json.dumps(dataclasses.asdict(TRACE)), encoding="utf-8")
    assert trace_of(seen) == TRACE
    assert trace_of(b.healthy(device=DeviceKind.CUDA)) is None
    other = dataclasses.replace(seen.stack, lock_sha256="60" * 32)
    assert trace_of(dataclasses.replace(seen, stack=other)) is None
    assert file_of("trl0.24-py311", DeviceKind.CUDA) == "trl0.24-py311-cuda.json"


def test_an_installed_package_has_no_records(in_places: Any) -> None:
    """They are in a checkout."""
    in_places(checkout=None)
    assert trace_of(b.healthy()) is None


def test_a_damaged_record_is_named(branches: Path) -> None:
    """With its place, and what to do."""
    path = branches / "trl0.24-py311.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RecordsError) as raised:
        trace_of(b.healthy())
    assert str(raised.value).startswith(f"reports/branches/{path.name}: not a record of device-dependent branches: ")
