"""Text from elsewhere does nothing where it is shown."""

from __future__ import annotations

import re

import pytest
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.foreign_text import inert, inert_log, inert_terminal
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b]0;title\x07b", "a\\x1b]0;title\\x07b"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\rb\x00\x7f\x9b31m", "a\\x0db\\x00\\x7f\\x9b31m"),
        ("\u202egnp.exe\u2066\u200b", "\\u202egnp.exe\\u2066\\u200b"),
        ("line\u2028line\udcff", "line\\u2028line\\udcff"),
        ("pass\u00adword\U000e0041", "pass\\xadword\\U000e0041"),
        ("line\n\tline é 漢", "line\n\tline é 漢"),
    ],
)
def test_control_and_direction_characters_are_shown(text: str, shown: str) -> None:
    """As Python writes them. Line ends, tabs and letters stay."""
    assert inert(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::x", ": :error::x"),
        ("a\n   ::set-output name=x::y", "a\n   : :set-output name=x::y"),
        ("\t::add-mask::x\n::stop-commands::x", "\t: :add-mask::x\n: :stop-commands::x"),
        ("a ##[error]x", "a # #[error]x"),
        ("##vso[task.setvariable]x", "# #vso[task.setvariable]x"),
        ("std::string ::x", "std::string ::x"),
        ("## head", "## head"),
    ],
)
def test_a_log_finds_no_command(text: str, shown: str) -> None:
    """At the start of an indented line, and in the older form anywhere in it."""
    assert inert_log(text) == shown


def test_a_terminal_keeps_colours_and_nothing_else() -> None:
    """This project uses colours and moves the cursor; a title or a clipboard is not its business."""
    assert inert_terminal("\x1b[31mred\x1b[0m\x1b[2K\r") == "\x1b[31mred\x1b[0m\x1b[2K\r"
    assert inert_terminal("\x1b]52;c;x\x07 \x1bP \x9b") == "\\x1b]52;c;x\\x07 \\x1bP \\x9b"


@given(st.text())
def test_no_text_leaves_anything_that_runs(text: str) -> None:
    """Whatever characters it has; what is inert stays as it is."""
    shown = inert_log(text)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
    assert all(not line.lstrip().startswith("::") and "##[" not in line for line in shown.split("\n"))
    assert inert_log(shown) == shown


def test_every_error_is_inert() -> None:
    """It quotes names, paths and lines of others."""
    error = CompatError("no\x1b[2J", where="a\n::error::b", meaning="##[x]", todo="\u202e")
    assert str(error) == "a\n: :error::b: no\\x1b[2J\n# #[x]\n\\u202e"
