"""Make text from elsewhere inert: error messages, names of stacks and cells, paths. Standard library only.

Every output has one place that calls this module: `machine.guarded_output` for terminals and CI logs, `report.html`,
`report.markdown` and `report.junit` for pages and comments, `contract.errors` for messages.
"""

from __future__ import annotations

import re

_INVISIBLE = (
    r"\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"  # direction of text, and characters without width
    r"\u2028\u2029"  # line ends of some programs
    r"\ud800-\udfff"  # halves of characters, which no encoding has
    r"\xad\U000e0000-\U000e007f"  # hyphens and tags that are not shown
)
_CONTROLS = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_INVISIBLE}]")
_CONTROLS_BUT_ESC = re.compile(
    rf"[\x00-\x08\x0b-\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f{_INVISIBLE}]|\x1b(?!\[[0-9;?]*[A-Za-z])"
)

_COMMAND = re.compile(r"^([^\S\n]*)::|##(?=\[|vso\[)", re.MULTILINE)
"""A workflow command: GitHub runs `::name::` at the start of an indented line and `##[name]` anywhere in a line, Azure
`##vso[name]`.
"""


def inert(text: str) -> str:
    """`text` with control characters, except line ends and tabs, and with invisible characters as escapes (`\\x1b`)."""
    return _CONTROLS.sub(_escaped, text)


def inert_log(text: str) -> str:
    """`inert` text in which a CI log finds no command. The two characters that begin one are separated."""
    return _COMMAND.sub(lambda found: f"{found[1]}: :" if found[1] is not None else "# #", inert(text))


def inert_terminal(text: str) -> str:
    """`text` for a terminal: colours and movements of the cursor are left, which this project uses."""
    return _CONTROLS_BUT_ESC.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    if number < 0x100:  # noqa: PLR2004 - as Python writes them
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"  # noqa: PLR2004
