"""One statement about one place of a project, for tools that show such statements. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a tool shows it; the words are those of SARIF."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a statement is an instance of."""

    id: str
    title: str
    help: str
    """What to do."""
    link: str = ""
    """URL; empty if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One statement."""

    rule: Rule
    level: Level
    message: str
    file: str
    line: int
    accepted: str = ""
    """Why the project accepts it; empty if it does not."""


def one_line(text: str) -> str:
    """`text` without control characters and line ends, so that a name from a file cannot steer a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))
