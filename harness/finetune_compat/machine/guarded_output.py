"""Standard output and standard error that run nothing in a terminal and in a CI log, whatever is printed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from finetune_compat.contract.foreign_text import inert_log, inert_terminal


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """While open, what this process prints runs nothing in a terminal and in a CI log, whatever it quotes."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Guarded(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def say_to_the_runner(commands: str) -> None:
    """Print commands for the runner of a CI job, such as `::error file=a.py::text`, whose data are escaped already."""
    stream = sys.stdout
    print(commands, end="", file=stream.raw if isinstance(stream, _Guarded) else stream, flush=True)


class _Guarded:
    """A text stream that changes what is written to it. Everything else is that of the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._inert = inert_terminal if stream.isatty() else inert_log
        self._begun = False
        """Whether the last line has been begun: a command is one at the start of a line only."""

    @property
    def raw(self) -> TextIO:
        """The stream itself."""
        return self._stream

    def write(self, text: object) -> int:
        """Write `text` without what would be run; return its length.

        Raises:
            TypeError: it is no text. Libraries ask so whether a stream is one of bytes.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            # A line that is written in pieces: its next piece is not at the start of it.
            first, end, rest = text.partition("\n") if self._begun else ("", "", text)
            self._stream.write(self._inert(f".{first}")[1:] + end + self._inert(rest))
            self._begun = not text.endswith("\n")
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of `lines`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
