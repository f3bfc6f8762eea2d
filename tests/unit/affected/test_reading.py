"""The packages of the ledger that each kind of file asks for, and whether it names all that is installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from finetune_compat.affected.reading import read_project
from finetune_compat.contract.errors import CompatError, ExitCode

LISTED = [{"name": "trl", "version": "0.22.2"}, {"name": "transformers", "version": "4.56.0"}]


def listed(tmp_path: Path, packages: list[dict[str, str]]) -> Path:
    """Write the output of `pip list --format json`."""
    path = tmp_path / "packages.json"
    path.write_text(json.dumps(packages))
    return path


def test_a_package_has_its_range_and_its_place(tmp_path: Path) -> None:
    """Relative to the file's directory."""
    (tmp_path / "requirements.txt").write_text("# ours\nnumpy\ntrl>=0.19,<1\npeft==0.17.1\n")
    found = read_project(tmp_path)
    assert {name: (asked.text, asked.where) for name, asked in found.packages.items()} == {
        "trl": ("trl <1,>=0.19", "requirements.txt:3"),
        "peft": ("peft 0.17.1", "requirements.txt:4"),
    }
    assert not found.complete


def test_a_limit_and_a_requirement_hold_together(tmp_path: Path) -> None:
    """A constraints file narrows the range."""
    (tmp_path / "limits.txt").write_text("trl<0.23\n")
    (tmp_path / "requirements.txt").write_text("-c limits.txt\ntrl>=0.19\n")
    assert read_project(tmp_path).packages["trl"].text == "trl <0.23,>=0.19"


def test_a_list_of_everything_is_complete(tmp_path: Path) -> None:
    """What it does not name is not installed."""
    assert read_project(listed(tmp_path, LISTED)).complete


def test_a_part_of_a_list_is_not_complete(tmp_path: Path) -> None:
    """TRL cannot be installed without Transformers: the list was cut."""
    assert not read_project(listed(tmp_path, LISTED[:1])).complete


@pytest.mark.parametrize("content", ["", "{", "\0\0"])
def test_a_file_that_cannot_be_read_is_bad_input(tmp_path: Path, content: str) -> None:
    """With the path."""
    path = tmp_path / "uv.lock"
    path.write_text(content)
    with pytest.raises(CompatError) as raised:
        read_project(path)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(path) in raised.value.where
