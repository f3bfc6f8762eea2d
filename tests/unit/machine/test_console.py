"""Output for people: a terminal, or plain text of fixed width."""

from __future__ import annotations

import io

import pytest
from finetune_compat.machine import console


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
