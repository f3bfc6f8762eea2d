"""Error classes: what a user reads, and the exit code."""

from __future__ import annotations

import signal

import pytest
from finetune_compat.contract.errors import CompatError, Fault, Interrupted, MatrixError, why

OURS = "Zq7xW2vKp9"
"""Replaces a secret."""


def test_no_compat_error_contains_a_secret() -> None:
    """This holds for anything that an error quotes."""
    url = f"https://user:{OURS}@example.com"
    error = CompatError(f"no index: {url}", where=url, meaning=f"token={OURS}", todo=f"Set X to {url}.")
    assert OURS not in f"{error}{error!r}{error.args}{error.what}{error.where}{error.meaning}{error.todo}"


def test_a_message_says_where_what_meaning_and_remedy() -> None:
    """One line each; a part that is not given has no line."""
    whole = CompatError("is empty", where="a.json", meaning="The disk is full.", todo="Free some space.")
    assert str(whole) == "a.json: is empty\nThe disk is full.\nFree some space."
    assert str(CompatError("is empty")) == "is empty"
    assert str(CompatError("is empty", todo="Free some space.")) == "is empty\nFree some space."


def test_a_file_with_faults_names_each_with_its_place() -> None:
    """The number of faults comes first. A fault of the whole file has no place in it."""
    faults = (Fault("stacks[2].peft", "no version"), Fault("", "no stacks"))
    two = MatrixError("stacks.toml", faults, todo="Correct it.")
    assert two.faults == faults
    assert str(two) == "stacks.toml: 2 faults\n  stacks[2].peft: no version\n  no stacks\nCorrect it."
    assert MatrixError("stacks.toml", faults[:1], todo="").what == "1 fault\n  stacks[2].peft: no version"


def test_the_cause_of_an_unreadable_file_is_the_systems_message() -> None:
    """Other exceptions have only their own text."""
    assert why(FileNotFoundError(2, "No such file or directory", "a.json")) == "No such file or directory"
    assert why(ValueError("not base64")) == "not base64"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_command_with_the_exit_code_of_shells(number: signal.Signals, code: int) -> None:
    """128 + the number. Nothing that catches errors catches it."""
    ended = Interrupted(number)
    assert (ended.exit_code, str(ended)) == (code, f"interrupted by {number.name}")
    assert not isinstance(ended, Exception)
