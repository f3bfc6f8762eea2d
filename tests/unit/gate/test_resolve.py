"""Pins are resolved as of their day, and another release in the same way as the first."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.resolve import of_release
from packaging.version import Version
from resolve_builders import MATRIX, Uv, resolved, resolved_alone, versions


def test_another_release_for_a_project_is_the_same_move(uv: Uv, tmp_path: Path) -> None:
    """The search for a release that passes keeps the other versions."""
    _, after = resolved("trl==0.22.2\nwandb==0.21.3\n", tmp_path, "trl==1.16.0")
    tried = of_release(after, "trl", Version("0.23.1"), date(2025, 9, 1), MATRIX, DeviceKind.CPU)
    assert (versions(tried)["trl"], versions(tried)["wandb"]) == ("0.23.1", "0.21.3")


@pytest.mark.usefixtures("of_a_day")
def test_a_pin_is_resolved_as_a_row_of_its_day_would_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """uv gets its requirement, the matrix's other packages and the end of its day, once."""
    found, calls = resolved_alone("trl==0.22.1", monkeypatch)
    row = MATRIX.plan(MATRIX.stack("trl0.22.0"), "3.11")
    expected = tuple("trl==0.22.1" if item == "trl==0.22.0" else item for item in row.requirements)
    assert (found.stack, found.plan.requirements, found.plan.as_of) == ("trl0.22.1-py311", expected, row.as_of)
    assert (found.plan.exempt, found.plan.excluded, found.plan.torch) == (row.exempt, row.excluded, row.torch)
    assert "2025-08-30T00:00:00Z" in calls[0]
    again, no_calls = resolved_alone("trl==0.22.1", monkeypatch)
    assert (again, no_calls) == (found, [])


@pytest.mark.usefixtures("of_a_day")
def test_extras_are_requested_or_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds for releases that are tried as a safe target; the lock of a row has no extras."""
    found, _ = resolved_alone("trl[vllm]==0.22.1", monkeypatch)
    assert (found.stack, found.not_followed) == ("trl-vllm0.22.1-py311", ())
    other = of_release(found, "trl", Version("0.22.2"), date(2025, 9, 3), MATRIX, DeviceKind.CPU)
    assert other.stack == "trl-vllm0.22.2-py311" and "trl[vllm]==0.22.2" in other.plan.requirements
    row, _ = resolved_alone("trl[vllm]==0.22.2", monkeypatch)
    told = ("trl[vllm]==0.22.2: the committed lock of trl0.22 has no extras",)
    assert (row.stack, row.not_followed) == ("trl0.22-py311", told)
