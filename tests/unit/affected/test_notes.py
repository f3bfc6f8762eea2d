"""Texts from files on a terminal."""

from __future__ import annotations

from finetune_compat.affected.notes import one_line


def test_control_characters_do_not_reach_a_terminal() -> None:
    """Neither escape sequences nor line ends."""
    assert one_line("a\x1b[31m\nb\u202e") == "a?[31m b?"
