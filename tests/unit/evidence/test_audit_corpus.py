"""The figures of the corpus hold, and its size."""

from __future__ import annotations

import os

import pytest
from finetune_compat.checks.ledger_file import load_ledger
from finetune_compat.checks.patterns import PATTERNS
from finetune_compat.evidence.audit_corpus import cases, tell
from finetune_compat.machine.places import PACKAGE
from finetune_compat.stacks.matrix import read_matrix

ROOT = PACKAGE.parents[1] / "tests"
BAD, GOOD, OTHERS = cases(ROOT)
RECALL, PRECISION = 0.90, 0.95


@pytest.fixture(autouse=True)
def exam_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(ROOT / "exam"))


def test_it_is_large_enough_and_names_patterns_that_exist() -> None:
    """60 bad and 120 good scripts."""
    assert len(BAD) >= 60 and len(GOOD) >= 120
    assert {pattern for case in BAD for pattern in case.patterns} <= PATTERNS.keys()


def test_bad_scripts_are_found_and_good_ones_are_not() -> None:
    """Only a hit counts as found, and only with a right pattern."""
    matrix, ledger = read_matrix(), load_ledger()
    bad = [tell(case, matrix, ledger) for case in BAD]
    false = [one.case.shown for one in (tell(case, matrix, ledger) for case in (*GOOD, *OTHERS)) if one.hits]
    found = sum(one.found for one in bad)
    wrong = [one.case.shown for one in bad if one.hits and not one.found]
    assert found / len(bad) >= RECALL, [one.case.shown for one in bad if not one.found]
    assert found / (found + len(false) + len(wrong)) >= PRECISION, (false, wrong)
