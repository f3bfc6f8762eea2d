"""Files that this project wrote: their value, or one error with the place and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.machine.record_files import read_record
from pydantic import TypeAdapter


@dataclass(frozen=True)
class Row:
    releases: tuple[str, ...]


ROWS = TypeAdapter(dict[str, Row])


def read(path: Path) -> dict[str, Row]:
    """Read a file of rows."""
    return read_record(ROWS, path, name="a record of rows", todo="Make it again.")


def refused(path: Path) -> str:
    """Read a bad file and return the text of its error."""
    with pytest.raises(RecordsError) as caught:
        read(path)
    return str(caught.value)


def test_a_file_is_read_into_its_type(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"trl": {"releases": ["0.9", "1.0"]}}')
    assert read(path) == {"trl": Row(("0.9", "1.0"))}


@pytest.mark.parametrize(
    ("text", "problem", "meaning"),
    [
        ('{"trl": {"rel', "Invalid JSON: ", "cut off"),
        ("", "Invalid JSON: ", "cut off"),
        ("[1]", "", "another version"),
        ('{"trl": {"releases": ["0.9", 1]}}', "trl.releases[1]: ", "another version"),
        ('{"trl": {}}', "trl.releases: ", "another version"),
    ],
)
def test_the_first_fault_is_named_with_its_place(tmp_path: Path, text: str, problem: str, meaning: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    first, second, last = refused(path).splitlines()
    assert first.startswith(f"{path}: not a record of rows: {problem}")
    assert meaning in second
    assert last == "Make it again."


def test_a_file_that_is_missing_or_a_directory_is_no_traceback(tmp_path: Path) -> None:
    assert "not a record of rows: there is no such file" in refused(tmp_path / "none.json")
    assert "not a record of rows: Is a directory" in refused(tmp_path)
