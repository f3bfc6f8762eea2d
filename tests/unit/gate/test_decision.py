"""What the answer of a gate says about itself."""

from __future__ import annotations

from dataclasses import replace

import builders as b
import pytest
from finetune_compat.checks.comparison import Change
from finetune_compat.gate.decision import Decision, SafeTarget, Tried
from gate_builders import AFTER, BEFORE, cell, gate


@pytest.mark.parametrize(
    ("decision", "code"),
    [(Decision.ALLOW, 0), (Decision.HOLD, 1), (Decision.BLOCK, 2), (Decision.COULD_NOT_TELL, 3)],
)
def test_exit_codes(decision: Decision, code: int) -> None:
    """A job in CI reads them: only ALLOW is success."""
    assert decision.exit_code == code


def test_the_sides_that_have_a_cell() -> None:
    """One may not."""
    found = gate([cell(BEFORE)], [cell(AFTER), cell(AFTER, variant=b.INT8)])
    both, new = found.cells
    assert [one.verdict.cell.partition("/")[0] for one in both.sides] == [BEFORE, AFTER]
    assert [one.verdict.cell.partition("/")[0] for one in new.sides] == [AFTER]


@pytest.mark.parametrize(
    ("change", "effect", "news"),
    [
        (Change.UNCHANGED, Decision.ALLOW, False),
        (Change.UNCHANGED, Decision.COULD_NOT_TELL, True),
        (Change.FIXED, Decision.ALLOW, True),
        (Change.REGRESSED, Decision.BLOCK, True),
    ],
)
def test_reports_show_what_changed_or_is_not_allowed(change: Change, effect: Decision, news: bool) -> None:
    """The rest is counted."""
    (one,) = gate([cell(BEFORE)], [cell(AFTER)]).cells
    assert replace(one, change=change, effect=effect).is_news is news


def test_a_cell_is_found_by_its_name() -> None:
    """Without a stack."""
    found = gate([cell(BEFORE)], [cell(AFTER)])
    assert found.cell("sft-peft-model[qwen2-nf4-gc]@cpu") is found.cells[0]
    with pytest.raises(KeyError):
        found.cell("sft-full")


def test_what_must_change_with_a_safe_release() -> None:
    """That of the release that passes."""
    tried = (Tried("0.23.0", False, "why", "peft 0.16"), Tried("0.23.1", True, "", "peft 0.17"))
    assert SafeTarget("trl", "0.23.1", True, tried, 0).beside == "peft 0.17"
    assert SafeTarget("trl", None, True, tried[:1], 0).beside == ""
