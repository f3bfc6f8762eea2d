"""The cached answer of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.results.run_files import RowState, StackRow
from finetune_compat.run import replay
from finetune_compat.run.replay import Answer


def test_predictions_of_another_run_directory_are_not_used(tmp_path: Path, in_places: Any) -> None:
    """The predicted paths do not exist here."""
    in_places(runs=tmp_path / "runs")
    (tmp_path / "summary.md").touch()
    (tmp_path / "runs" / ".answers").mkdir(parents=True)
    for name in ("..", ".", "../runs/..", 5):
        answer = {"run": name, "exit_code": 0, "form": "plain", "text": ""}
        (tmp_path / "runs" / ".answers" / "key.json").write_text(json.dumps(answer))
        assert replay.find("key", "plain") is None


ROW = StackRow("trl0.4-py311", RowState.UNINSTALLABLE, "no solution", ())
SEEN = [("a/f[x]@cpu", "address", "name"), ("b/f[x]@cpu", "other", "name")]


def test_the_same_question_has_the_same_digest_in_any_order() -> None:
    """The order of cells and rows is none of it."""
    other = StackRow("trl0.5-py311", RowState.UNINSTALLABLE, "no solution", ())
    assert replay.question(SEEN, [ROW, other]) == replay.question(reversed(SEEN), [other, ROW])


@pytest.mark.parametrize(
    ("seen", "rows"),
    [
        (SEEN[:1], [ROW]),
        ([*SEEN[:1], ("b/f[x]@cpu", "moved", "name")], [ROW]),
        ([*SEEN[:1], ("b/f[x]@cpu", "other", "observed again")], [ROW]),
        (SEEN, []),
        (SEEN, [StackRow("trl0.4-py311", RowState.UNINSTALLABLE, "no wheel", ())]),
    ],
)
def test_another_cell_address_observation_or_row_is_another_question(
    seen: list[tuple[str, str, str]], rows: list[StackRow]
) -> None:
    """The answer to it may differ."""
    assert replay.question(seen, rows) != replay.question(SEEN, [ROW])


def test_another_ledger_is_another_question(tmp_path: Path, in_places: Any) -> None:
    """So is another file of this package: both decide what a report says."""
    ledger = in_places(matrices=tmp_path).ledger
    ledger.write_text("one")
    before = replay.question(SEEN, [])
    ledger.write_text("two")
    assert replay.question(SEEN, []) != before


def test_an_answer_is_found_again_while_its_run_is_there(tmp_path: Path, in_places: Any) -> None:
    """Not for a terminal of another width, nor without the run that says it in full."""
    in_places(runs=tmp_path)
    answer = Answer("one", 1, "120 None", "the report")
    replay.save("key", answer)
    assert replay.find("key", "120 None") is None
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "summary.md").touch()
    assert replay.find("key", "120 None") == answer
    assert replay.find("key", "80 truecolor") is None
    assert replay.find("another", "120 None") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": "one", "exit_code": 9, "form": "f", "text": ""}'])
def test_a_file_that_is_no_answer_is_none(tmp_path: Path, in_places: Any, text: str) -> None:
    """Cut off, of another kind, or with an exit code that no run has."""
    in_places(runs=tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "summary.md").touch()
    (tmp_path / ".answers").mkdir()
    (tmp_path / ".answers" / "key.json").write_text(text)
    assert replay.find("key", "f") is None
