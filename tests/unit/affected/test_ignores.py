"""Accepted issues: for a reason, for a time, and nothing else passes."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from finetune_compat.affected.ignores import accepted, expired, read_ignores
from finetune_compat.contract.errors import CompatError, ExitCode

KNOWN = {"trl#3926", "pad-is-end"}
ENTRY = '[[ignore]]\nid = "trl#3926"\nreason = "handed over"\nexpires = 2027-01-31\n'
DAY = datetime.date(2027, 1, 31)
AFTER = datetime.date(2027, 2, 1)


def test_an_entry_holds_until_its_last_day(tmp_path: Path) -> None:
    """The day after, it is told as expired."""
    (tmp_path / "finetune-compat.toml").write_text(ENTRY)
    ignores = read_ignores(tmp_path, KNOWN)
    assert accepted(ignores, "trl#3926", "train.py", DAY) == "handed over (until 2027-01-31)"
    assert accepted(ignores, "trl#3926", "train.py", AFTER) == ""
    assert accepted(ignores, "pad-is-end", "train.py", DAY) == ""
    assert expired(ignores, DAY) == ()
    assert expired(ignores, AFTER) == ("The entry that accepts trl#3926 expired on 2027-01-31.",)


def test_pyproject_has_the_same_entries(tmp_path: Path) -> None:
    """And they may be for some files only."""
    text = ENTRY.replace("ignore", "tool.finetune-compat.ignore") + 'files = ["old/*.py"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    ignores = read_ignores(tmp_path / "uv.lock", KNOWN)
    assert accepted(ignores, "trl#3926", "old/train.py", DAY)
    assert not accepted(ignores, "trl#3926", "train.py", DAY)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ENTRY.replace('reason = "handed over"', ""), "ignore[0] (trl#3926) has no reason"),
        (ENTRY.replace('"handed over"', '"  "'), "ignore[0] (trl#3926) has no reason"),
        (ENTRY.replace("expires = 2027-01-31", ""), "ignore[0] (trl#3926) has no date `expires`, such as 2027-01-31"),
        (ENTRY.replace("2027-01-31", '"2027"'), "ignore[0] (trl#3926) has no date `expires`, such as 2027-01-31"),
        (ENTRY.replace("trl#3926", "trl#1"), "ignore[0]: there is no issue or pattern 'trl#1'"),
        (ENTRY + 'until = "x"\n', "ignore[0] may have expires, files, id, reason, and nothing else"),
        (ENTRY + "files = 1\n", "ignore[0] (trl#3926): `files` is not a list of file names"),
        ("ignore = 1\n", "`ignore` is not a list of tables"),
        ("ignore = [\n", "cannot be read: "),
    ],
)
def test_an_invalid_entry_is_bad_input(tmp_path: Path, text: str, problem: str) -> None:
    """It names the file and the entry."""
    path = tmp_path / "finetune-compat.toml"
    path.write_text(text)
    with pytest.raises(CompatError) as raised:
        read_ignores(tmp_path, KNOWN)
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert raised.value.where == str(path)
    assert raised.value.what.startswith(problem)
