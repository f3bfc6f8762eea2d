"""Where a person reads: a terminal, or a log of fixed width."""

from __future__ import annotations

from rich.console import Console

PIPED_WIDTH = 120
"""Columns where there is no terminal to ask: what CI logs show without wrapping."""


def open_console() -> Console:
    """The terminal; or plain text of a fixed width where standard output is none."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=PIPED_WIDTH, color_system=None, force_terminal=False)


def form() -> str:
    """What a text is laid out for."""
    console = open_console()
    return f"{console.width} {console.color_system}"


def say(line: str) -> None:
    """Say something at once."""
    print(line, flush=True)
