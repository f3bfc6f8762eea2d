"""The committed scores are at or above their floors, and a lower score is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.checks import CHECKS
from finetune_compat.evidence import exam, faults, score_floors
from finetune_compat.evidence.score_floors import Score, fallen, read_floors, scores

ROOT = Path(__file__).parents[3]


def test_no_committed_score_has_fallen() -> None:
    """Every record has a floor, and every floor a record."""
    assert fallen(scores(), read_floors(ROOT)) == ()


def test_every_check_of_cells_names_a_fault_on_some_stack() -> None:
    """A check that names none proves nothing."""
    assert {check.code for check in CHECKS} <= {each.check for record in faults.read_records() for each in record.named}


def test_every_wrong_answer_to_a_script_has_a_reason() -> None:
    """Also a wrong answer to a script that the exam no longer has: its record is out of date."""
    reasons = {script.path: script.missed for script in exam.scripts()}
    wrong = {answer.path for record in exam.read_records() for answer in record.answers if not answer.found}
    assert {path for path in wrong if not reasons.get(path)} == set()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Score("reports", "trl1.16", 66, 76), ""),
        (Score("reports", "trl1.16", 67, 78), ""),
        (Score("reports", "trl1.16", 64, 76), "reports on trl1.16: 64 of 76, at least 65 of 76"),
        (Score("reports", "trl1.16", 65, 77), "reports on trl1.16: 65 of 77, at least 65 of 76"),
        (Score("reports", "trl1.16", 60, 60), "reports on trl1.16: 60 of 60, at least 65 of 76"),
        (None, "reports on trl1.16: no record, at least 65 of 76"),
    ],
)
def test_a_lower_score_is_found(found: Score | None, said: str) -> None:
    """Neither a fault that is missed now, nor one that is left out, goes unseen."""
    floors = {("reports", "trl1.16"): Score("reports", "trl1.16", 65, 76)}
    assert fallen(tuple(filter(None, [found])), floors) == tuple(filter(None, [said]))


def test_a_record_without_a_floor_is_found() -> None:
    one = Score("scripts", "trl1.17", 5, 5)
    assert fallen((one,), {}) == ("scripts on trl1.17: 5 of 5, without a floor",)


def test_the_command_fails_below_a_floor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert (score_floors.main(), capsys.readouterr().out) == (0, "")
    monkeypatch.setattr(score_floors, "scores", lambda: (Score("checks", "trl0.9-py311", 70, 74), *scores()[1:]))
    assert score_floors.main() == 1
    assert capsys.readouterr().out == (
        "checks on trl0.9-py311: 70 of 74, at least 74 of 74. If this is right, change tests/score_floors.toml and say "
        "why.\n"
    )
