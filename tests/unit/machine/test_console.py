"""Output for people and for programs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from finetune_compat.machine.console import printable, stdout_to_stderr
from hypothesis import given
from hypothesis import strategies as st


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    """Only line ends remain of what cannot be seen."""
    assert all(char.isprintable() or char == "\n" for char in printable(text))


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_what_can_be_seen_stays(text: str) -> None:
    """Of any script."""
    assert printable(text) == text


def test_escapes_are_readable() -> None:
    """A reader sees what the text holds."""
    assert printable("a\x1b[2Jb\u202ec\nd\te") == "a\\x1b[2Jb\\u202ec\nd\\te"


def test_stdout_is_left_to_json(capfd: pytest.CaptureFixture[str]) -> None:
    """Prints, child processes and other code that knows only the descriptor."""
    with stdout_to_stderr():
        print("print")
        subprocess.run([sys.executable, "-c", "print('child')"], check=True)
        os.write(1, b"descriptor\n")
    print("json")
    out, err = capfd.readouterr()
    assert out == "json\n"
    assert all(word in err for word in ("print", "child", "descriptor"))


def test_stdout_stays_where_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """Without --json."""
    with stdout_to_stderr(when=False):
        print("print")
    assert capfd.readouterr().out == "print\n"
