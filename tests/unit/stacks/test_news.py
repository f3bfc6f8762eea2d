"""What the index has and the matrix lacks."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.matrix import Matrix, parse_matrix
from finetune_compat.stacks.news import News, news_of
from packaging.version import Version
from stack_builders import document, row

TODAY = date(2026, 11, 30)
LONG_AGO = date(2026, 1, 1)


def matrix(*rows: dict[str, Any], since: str | None = "0.22") -> Matrix:
    """A matrix with these rows of TRL, which follows the index from `since` on and waits seven days."""
    axis = {"package": "trl", "stacks": list(rows) or [row()]} | ({"since": since} if since else {})
    return parse_matrix(document(axes=[axis], refresh={"cool_down_days": 7}))


def news(
    of: Matrix,
    *versions: str,
    days: dict[str, date] | None = None,
    yanked: dict[str, str] | None = None,
    elsewhere: dict[str, str] | None = None,
) -> News:
    """What releases of TRL ask of a matrix; each was uploaded long ago unless `days` says otherwise."""
    there = [Release(Version(version), (days or {}).get(version, LONG_AGO)) for version in versions]
    withdrawn = {Version(key): why for key, why in (yanked or {}).items()}
    held = {stack: Version(version) for stack, version in (elsewhere or {}).items()}
    return news_of(of, "trl", there, withdrawn, TODAY, held)


def lines(found: News) -> list[str]:
    """All lines that a user sees."""
    return [*map(str, found.rows), *map(str, found.left_out)]


class TestRows:
    def test_each_new_minor_gets_a_row_for_its_newest_patch(self) -> None:
        """Older minors than `since` are not the matrix's."""
        assert lines(news(matrix(), "0.21.0", "0.22.2", "0.23.0", "0.23.1", "0.24.0")) == [
            "trl 0.23.1: new row, uploaded 2026-01-01",
            "trl 0.24.0: new row, uploaded 2026-01-01",
        ]

    def test_a_row_moves_to_a_newer_patch_of_its_minor(self) -> None:
        """A minor means its newest patch."""
        assert lines(news(matrix(), "0.22.2", "0.22.3")) == ["trl 0.22.3: row moves from 0.22.2, uploaded 2026-01-01"]

    def test_a_row_with_a_label_pins_its_patch_for_good(self) -> None:
        """The edge of a known issue is a patch: its row must not move."""
        labelled = matrix(row(), row(pin="0.23.0", label="0.23.0"))
        assert lines(news(labelled, "0.22.2", "0.23.0")) == ["trl 0.23.0: new row, uploaded 2026-01-01"]

    def test_a_row_with_a_day_of_its_own_does_not_move(self) -> None:
        """Its day was chosen for its patch, so a person decides."""
        own = matrix(row(as_of=date(2025, 9, 4), why="it needs that day"))
        assert lines(news(own, "0.22.2", "0.22.3")) == [
            "trl 0.22.3: left out, the row of 0.22.2 has a day of its own: it needs that day"
        ]

    def test_an_axis_without_since_gets_no_rows(self) -> None:
        """Its points are chosen by hand."""
        assert news(matrix(since=None), "0.22.2", "0.23.0") == News()

    def test_a_minor_that_a_row_of_another_axis_is_locked_to_needs_no_row(self) -> None:
        """Its cells run there. A row of the package's own axis still moves to the newest patch."""
        found = news(matrix(), "0.22.3", "0.23.1", "0.24.0", elsewhere={"peft0.17": "0.23.0", "peft0.16": "0.22.2"})
        assert lines(found) == [
            "trl 0.22.3: row moves from 0.22.2, uploaded 2026-01-01",
            "trl 0.24.0: new row, uploaded 2026-01-01",
            "trl 0.23.1: left out, the stack peft0.17 holds this minor",
        ]

    def test_a_minor_that_the_axis_is_without_is_named_with_the_reason(self) -> None:
        """The reason is the file's."""
        axis = {"package": "trl", "since": "0.22", "without": {"0.23": "it cannot be measured"}, "stacks": [row()]}
        left = parse_matrix(document(axes=[axis]))
        assert lines(news(left, "0.22.2", "0.23.1", "0.24.0")) == [
            "trl 0.24.0: new row, uploaded 2026-01-01",
            "trl 0.23.1: left out, it cannot be measured",
        ]

    def test_a_pre_release_is_no_row(self) -> None:
        """The unpinned stack `pre` takes it."""
        assert news(matrix(), "0.22.2", "0.23.0rc1") == News()


class TestLeftOut:
    @pytest.mark.parametrize(("age", "is_a_row"), [(6, False), (7, True)])
    def test_a_release_waits_for_the_cool_down(self, age: int, is_a_row: bool) -> None:
        """Seven days after the upload it is a row, one day earlier it is named with its day."""
        found = news(matrix(), "0.22.2", "0.23.0", days={"0.23.0": TODAY - timedelta(days=age)})
        assert (bool(found.rows), bool(found.left_out)) == (is_a_row, not is_a_row)

    def test_until_then_the_older_patch_is_the_row(self) -> None:
        """A minor is not empty because its newest patch is young."""
        found = news(matrix(), "0.22.2", "0.23.0", "0.23.1", days={"0.23.1": TODAY})
        assert lines(found) == [
            "trl 0.23.0: new row, uploaded 2026-01-01",
            "trl 0.23.1: left out, uploaded 2026-11-30, until the cool-down is over",
        ]

    def test_a_yanked_release_is_named_with_the_reason_of_its_publisher(self) -> None:
        """Only where it would have been a row."""
        found = news(matrix(), "0.22.2", yanked={"0.22.1": "old", "0.22.3": "broken wheel", "0.23.0": ""})
        assert lines(found) == [
            "trl 0.22.3: left out, yanked: broken wheel",
            "trl 0.23.0: left out, yanked: no reason given",
        ]
