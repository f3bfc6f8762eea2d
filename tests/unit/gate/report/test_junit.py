"""The answer as JUnit."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as ET

from finetune_compat.gate.decision import Decision, Gate
from finetune_compat.gate.report import junit


def test_a_gate_without_cells_is_not_green_in_junit(gate: Gate) -> None:
    """No side could be installed, so there is no cell, and one error says so."""
    bare = replace(gate, cells=(), causes=(), flows=(), decision=Decision.COULD_NOT_TELL, reason="Nothing is known.")
    (suite,) = ET.fromstring(junit.render(bare))  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    (error,) = suite.iter("error")
    assert (error.get("message"), error.text) == ("Nothing is known.", f"run it again: {gate.command}")


def test_a_gate_that_allows_nothing_has_no_error_in_junit_beside_its_failures(gate: Gate) -> None:
    """Only suites without a failure get an error."""
    (suite,) = ET.fromstring(junit.render(gate))  # noqa: S314 - our own
    assert suite.get("tests") == str(len(gate.cells))
