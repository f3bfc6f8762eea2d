"""Output for people: a terminal, or plain text of fixed width."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

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
    """Discard what this process and its children write to stdout, so that only the answer of a command is there."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, _stdout_to(nowhere):
        yield


@contextlib.contextmanager
def stdout_to_stderr(*, when: bool = True) -> Iterator[None]:
    """Send what this process and its children write to stdout to stderr, if `when` is true.

    For commands that print only JSON on stdout.
    """
    with _stdout_to(sys.stderr) if when else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _stdout_to(stream: TextIO) -> Iterator[None]:
    """While open, `stream` takes what is written to stdout. The descriptor is replaced, because children inherit it."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2 if stream is sys.stderr else stream.fileno(), 1)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
