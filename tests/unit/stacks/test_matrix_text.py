"""Editing the text of stacks.toml: what changes, and that nothing else does."""

from __future__ import annotations

import tomllib
from datetime import date

import pytest
from finetune_compat.contract.errors import MatrixError
from finetune_compat.machine.places import places
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.matrix import parse_matrix
from finetune_compat.stacks.matrix_text import as_of_today, with_rows
from finetune_compat.stacks.news import Row
from packaging.version import Version

TEXT = """\
# A comment that stays.
[[unpinned]]
name = "latest"
as_of = 2026-11-01

[[axes]]
package = "trl"
since = "0.22"
stacks = [
  { pin = "0.22.2", released = 2025-09-03, pythons = ["3.11", "3.12"] },
  { pin = "0.24.0", released = 2025-10-16 },
]

[[axes]]
package = "peft"
stacks = [
  { pin = "0.17.1", released = 2025-08-21, as_of = 2025-09-01, why = "a reason" },
]
"""


def wanted(package: str, version: str, before: str = "") -> Row:
    """A row that the index asks for."""
    return Row(package, Release(Version(version), date(2025, 10, 2)), before)


class TestRows:
    def test_a_row_stands_where_its_version_belongs(self) -> None:
        """The other lines are what they were."""
        added = '  { pin = "0.23.1", released = 2025-10-02 },\n'
        before, line, after = TEXT.partition('  { pin = "0.24.0"')
        assert with_rows(TEXT, [wanted("trl", "0.23.1")]) == before + added + line + after

    def test_a_moved_row_keeps_its_pythons(self) -> None:
        """Only the pin and its day are new."""
        text = with_rows(TEXT, [wanted("trl", "0.22.3", before="0.22.2")])
        assert '  { pin = "0.22.3", released = 2025-10-02, pythons = ["3.11", "3.12"] },\n' in text
        assert "0.22.2" not in text

    def test_pins_are_aligned_as_a_person_would(self) -> None:
        """A longer version moves the days of the other rows."""
        text = with_rows(TEXT, [wanted("trl", "0.100.10")])
        assert (
            '  { pin = "0.24.0",   released = 2025-10-16 },\n  { pin = "0.100.10", released = 2025-10-02 },\n' in text
        )

    def test_nothing_wanted_changes_nothing(self) -> None:
        """The committed file can be edited, and is written as it is read."""
        committed = places().stacks.read_text(encoding="utf-8")
        assert with_rows(TEXT, []) == TEXT
        pins = [stack for stack in parse_matrix(tomllib.loads(committed)).stacks if stack.package]
        same = [Row(stack.package, Release(Version(stack.pin), stack.released), stack.pin) for stack in pins]
        assert with_rows(committed, same) == committed

    def test_rows_that_cannot_be_edited_are_refused(self) -> None:
        """A comment between rows would be lost."""
        text = TEXT.replace('  { pin = "0.24.0"', '  # why this one\n  { pin = "0.24.0"')
        with pytest.raises(MatrixError) as caught:
            with_rows(text, [wanted("trl", "0.23.1")])
        assert "axes (trl): not a row: # why this one" in str(caught.value)


class TestDays:
    def test_only_unpinned_stacks_take_the_day(self) -> None:
        """A row of an axis has a day of its own for a reason."""
        text = as_of_today(TEXT, date(2026, 11, 30))
        assert text == TEXT.replace("as_of = 2026-11-01", "as_of = 2026-11-30")
