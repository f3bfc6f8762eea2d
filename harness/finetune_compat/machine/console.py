"""Output for people: a terminal, or plain text of fixed width."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

PIPED_WIDTH = 120
"""Columns of output that does not go to a terminal: CI logs show this width without wrapping."""


def open_console() -> Console:
    """A console on standard output; plain text of `PIPED_WIDTH` columns if standard output is not a terminal."""
    probe = Console()
    return probe if probe.is_terminal else Console(width=PIPED_WIDTH, color_system=None, force_terminal=False)


def form() -> str:
    """The width and colors that output is formatted for. Texts formatted for another value must be formatted again."""
    console = open_console()
    return f"{console.width} {console.color_system}"


def say(line: str) -> None:
    """Print `line` and flush."""
    print(line, flush=True)


@contextlib.contextmanager
def silent_stdout() -> Iterator[None]:
    """Discard what is printed to stdout, so that only the answer of a command is there. stderr is unchanged."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
