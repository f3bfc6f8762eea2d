"""Output for people and for programs."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
from finetune_compat.machine import console
from finetune_compat.machine.console import silent_stdout, stdout_to_stderr


@pytest.mark.parametrize("columns", ["40", "400"])
def test_output_that_goes_elsewhere_has_a_fixed_width(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The width of the terminal behind a pipe does not matter."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    found = console.open_console()
    assert (found.width, found.color_system) == (console.PIPED_WIDTH, None)
    assert console.form() == "120 None"


def test_output_of_a_terminal_has_its_width_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that was formatted for it does not fit a pipe."""
    for name, value in {"COLUMNS": "77", "FORCE_COLOR": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLORTERM", raising=False)
    assert console.form() == "77 256"


def test_a_line_is_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows a log in a pipe sees it before the buffer is full."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    console.say("1 of 2")
    assert raw.getvalue() == b"1 of 2\n"


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


def test_stdout_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """stderr is not, and stdout comes back also after an error."""
    child = "import sys; print('child'); print('cause', file=sys.stderr)"

    def fail() -> None:
        with silent_stdout():
            print("print")
            subprocess.run([sys.executable, "-c", child], check=True)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    print("answer")
    assert capfd.readouterr() == ("answer\n", "cause\n")
