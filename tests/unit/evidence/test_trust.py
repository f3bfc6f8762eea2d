"""The page about the harness itself: it says what was run, and counts what held."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from finetune_compat.evidence import trust
from finetune_compat.evidence.trust import Fault, fuzzed, outcomes, page, read_matrix

ROOT = Path(__file__).parents[3]

JUNIT = """<testsuites><testsuite>
<testcase name="test_a[1]" time="1"/><testcase name="test_a[2]" time="1"><failure/></testcase>
<testcase name="test_b" time="1"/><testcase name="test_c" time="1"><skipped/></testcase>
<testcase name="test_any_content_is_an_answer_or_one_error[a lock]" time="1800"/>
<testcase name="test_any_content_is_an_answer_or_one_error[a row]" time="1800"><error/></testcase>
</testsuite></testsuites>"""
ALARMS: dict[str, Any] = {
    "stack": "trl1.16-py311",
    "cells": ["a", "b"],
    "runs": 12,
    "decisions": {"ALLOW": 130, "HOLD": 2},
    "spread": [],
    "identical": True,
}


def test_every_fault_names_a_test_that_is_there() -> None:
    """A renamed test would leave its fault uncovered."""
    matrix = read_matrix(ROOT)
    for row in matrix:
        file, *names = row.test.split("::")
        text = (ROOT / file).read_text() if row.test else ""
        assert all(re.search(rf"(?:def|class) {name}\b", text) for name in names), row.test
    assert len({row.fault for row in matrix}) == len(matrix)


def test_the_worst_of_several_cases_is_the_outcome(tmp_path: Path) -> None:
    """One parameter that fails is a test that fails."""
    (tmp_path / "x.xml").write_text(JUNIT)
    found = outcomes(tmp_path / "x.xml")
    assert (found["test_a"], found["test_b"], found["test_c"]) == ("failed", "passed", "skipped")
    assert fuzzed(tmp_path / "x.xml", 500) == {"examples": 1000, "readers": 2, "failed": 1, "seconds": 3600}


def test_the_page_counts_what_held(monkeypatch: Any) -> None:
    """A fault without a test, and one whose test was not run, did not hold."""
    monkeypatch.setattr(trust, "_score", lambda: "3 of 4")
    matrix = [
        Fault("a", "x", "f.py::test_a"),
        Fault("b", "x", "f.py::Class::test_b"),
        Fault("c", "x", ""),
        Fault("d", "x", "f.py::test_d"),
    ]
    fuzz = {"examples": 1000, "readers": 2, "failed": 1, "seconds": 3600}
    text = page(matrix, {"test_a": "failed", "test_b": "passed"}, fuzz, ALARMS)
    assert "1 of 3 with a test held; 1 without a test" in text
    assert "2 of 132 decisions between equal sides were not ALLOW" in text
    assert "1,000 contents of 2 kinds of files, 1.00 hours. 1 tests found" in text
    assert "| c | x | no test |" in text and "| d | x | not run |" in text
