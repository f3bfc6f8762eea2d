"""The digest of a check changes with what the check does, and with nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from finetune_compat.checks import CHECKS
from finetune_compat.checks.digests import check_digests
from finetune_compat.machine.places import PACKAGE


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A copy of the checks, to be changed."""
    return Path(shutil.copytree(PACKAGE / "checks", tmp_path / "checks"))


def changed(room: Path, file: str, old: str, new: str) -> set[str]:
    """Codes whose digest differs after a change of one text."""
    path = room / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    before, after = check_digests(), check_digests(room)
    return {code for code in before if before[code] != after[code]}


def test_every_check_has_its_own_digest(room: Path) -> None:
    """The same in every place."""
    assert [check.code for check in CHECKS] == list(check_digests())
    assert len(set(check_digests().values())) == len(CHECKS)
    assert check_digests(room) == check_digests()


@pytest.mark.parametrize(
    ("file", "old", "new", "codes"),
    [
        # Its own function.
        ("steps.py", "memory.end_bytes == memory.start_bytes", "memory.end_bytes <= memory.start_bytes", {"M901"}),
        # A tolerance that only one check uses.
        ("stages.py", "REPLY_TOLERANCE = 0.05", "REPLY_TOLERANCE = 0.5", {"A203"}),
        # A function of another module, and one behind it.
        ("rules.py", '"the whole gradient is exactly zero', '"every gradient is exactly zero', {"G401"}),
        # The table: which function, with which argument.
        ("cell_checks.py", "stages.census_check(Stage.RELOAD)", "stages.census_check(Stage.LOAD)", {"C106"}),
        # A function that makes the functions of several checks.
        (
            "stages.py",
            "if census.trainable in allowed:",
            "if census.total in allowed:",
            {"C101", "C102", "C103", "C104", "C105", "C106"},
        ),
        # Words for readers.
        ("steps.py", '"""After all objects of the flow', '"""When all objects of the flow', set()),
        ("steps.py", "def memory_is_given_back", "# A comment.\ndef memory_is_given_back", set()),
        ("codes.py", '"Look at the quantization config."', '"Look at it."', set()),
    ],
)
def test_a_change_changes_the_checks_that_it_reaches(
    room: Path, file: str, old: str, new: str, codes: set[str]
) -> None:
    """And no others."""
    assert changed(room, file, old, new) == codes


def test_a_method_of_the_case_reaches_the_checks_that_use_it(room: Path) -> None:
    """Not those that only get a case."""
    codes = changed(room, "case.py", "return sum(self.sizes.adapters_on.values())", "return 0")
    assert "C110" in codes
    assert not codes & {"M901", "R601", "P101"}
