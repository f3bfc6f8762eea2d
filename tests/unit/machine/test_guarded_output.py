"""What is printed runs nothing."""

from __future__ import annotations

import io
import sys

import pytest
from finetune_compat.machine.guarded_output import guarded_output


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def printed(monkeypatch: pytest.MonkeyPatch, *pieces: str, stream: io.StringIO | None = None) -> str:
    """What arrives when these pieces are printed."""
    out = stream or io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with guarded_output():
        for piece in pieces:
            print(piece, end="", flush=True)
        assert sys.stdout.writable()
    assert sys.stdout is out
    return out.getvalue()


def test_a_log_gets_no_command_and_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the line is written."""
    assert printed(monkeypatch, "  ::error::a\n\x1b[31mb\n") == "  : :error::a\n\\x1b[31mb\n"
    assert printed(monkeypatch, "a ", "::error::b\n", "::error::c") == "a ::error::b\n: :error::c"
    assert printed(monkeypatch, "a", "\n", "::x") == "a\n: :x"


def test_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no title."""
    assert printed(monkeypatch, "\x1b[31ma\x1b]0;x\x07", stream=Terminal()) == "\x1b[31ma\\x1b]0;x\\x07"


def test_what_cannot_be_encoded_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The half of a character in the name of a file ends no command."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    with guarded_output():
        print("x\udcff", flush=True)
    assert out.buffer.getvalue() == b"x\\udcff\n"  # type: ignore[attr-defined]


def test_bytes_are_refused_as_by_any_stream_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries try it, to know what they may write."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with guarded_output(), pytest.raises(TypeError):
        sys.stdout.write(b"")  # type: ignore[arg-type]
