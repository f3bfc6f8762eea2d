"""Answers of gates as a terminal shows them, and texts that no reader must act on."""

from __future__ import annotations

import io
from dataclasses import replace

from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report.terminal import print_gate
from rich.console import Console


def printed(gate: Gate, width: int, *, details: bool = False) -> list[str]:
    """The lines on a terminal of this width."""
    out = io.StringIO()
    print_gate(gate, Console(file=out, width=width, color_system=None, force_terminal=False), details=details)
    return out.getvalue().splitlines()


HOSTILE = "\x1b[2J\x1b]0;title\x07\u202e*bold* <script>alert(1)</script> @everyone [x](javascript:1) ``` \r\n::error::x"


def hostile(gate: Gate) -> Gate:
    """The same answer with a text that no reader must act on, in every place that a library, file or script fills."""
    causes = tuple(
        replace(
            cause,
            reason=HOSTILE,
            group=replace(cause.group, reason=HOSTILE, failing=(("F001", HOSTILE),), issues=())
            if cause.group
            else None,
        )
        for cause in gate.causes
    )
    sides = (replace(side, asked=HOSTILE, not_followed=(HOSTILE,)) for side in (gate.before, gate.after))
    before, after = sides
    return replace(gate, reason=HOSTILE, causes=causes, before=before, after=after, command=f"compat gate {HOSTILE}")
