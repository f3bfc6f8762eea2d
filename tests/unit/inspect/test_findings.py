"""The findings of a saved adapter: their order, severity and places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from adapter_stories import ALL_B, case, changed, found, of_modules
from adapters import write
from finetune_compat.checks.codes import Severity
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.contract.catalog import CATALOG
from finetune_compat.contract.errors import ExitCode
from finetune_compat.inspect.checks import ENGINE
from finetune_compat.inspect.findings import FLOWS, ISSUES
from finetune_compat.inspect.inspection import inspect_adapter


def test_a_healthy_adapter_has_no_finding_at_all(tmp_path: Path) -> None:
    """The exit code is 0."""
    seen = inspect_adapter(write(tmp_path / "a"))
    assert (seen.findings, seen.exit_code) == ((), ExitCode.HEALTHY)


def test_notes_alone_are_healthy(tmp_path: Path) -> None:
    """What save_pretrained always writes is no fault."""
    seen = inspect_adapter(write(tmp_path / "a", inference_mode=True))
    assert [finding.severity for finding in seen.findings] == [Severity.NOTE]
    assert seen.exit_code is ExitCode.HEALTHY


def test_faults_come_before_notes(tmp_path: Path) -> None:
    """The order of codes does not matter."""
    seen = inspect_adapter(write(tmp_path / "a", changed(np.zeros_like, *ALL_B), inference_mode=True))
    assert [finding.code for finding in seen.findings] == ["S204", "S101"]
    assert seen.exit_code is ExitCode.UNHEALTHY


def test_a_finding_names_every_place(tmp_path: Path) -> None:
    """The sentence has three names; `where` has all, in full."""
    names = [f"model.layers.{layer}.mlp.{target}" for layer in range(3) for target in ("a", "b", "c", "d", "e")]
    seen = found(tmp_path, case("S305", "", None, of_modules(*names)))["S305"]
    assert seen.where == tuple(names)
    assert seen.sentence == (
        "No target names all 15 modules (model.layers.0-2.mlp.a, model.layers.0-2.mlp.b, model.layers.0-2.mlp.c "
        "and 2 more)."
    )


def test_flows_and_issues_that_are_named_exist() -> None:
    """Flows are in the catalog and issues in the ledger, for findings that exist."""
    flows, issues = {flow.name for flow in CATALOG}, {issue.id for issue in load_ledger().issues}
    assert FLOWS.keys() == ISSUES.keys() <= {code.code for code in ENGINE.codes}
    assert all(FLOWS.values()) and all(ISSUES.values())
    assert {flow for named in FLOWS.values() for flow in named} <= flows
    assert {issue for named in ISSUES.values() for issue in named} <= issues
