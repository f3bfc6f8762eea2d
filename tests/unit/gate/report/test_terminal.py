"""The answer in a terminal: short enough to be read at once, and safe to print."""

from __future__ import annotations

import pytest
from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report.terminal import LINES
from gate_printing import hostile, printed


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("details", [False, True])
def test_no_line_is_wider_than_the_terminal(every_gate: Gate, width: int, details: bool) -> None:
    """A terminal would wrap it anywhere."""
    assert max(map(len, printed(every_gate, width, details=details))) <= width


def test_the_answer_fits_into_a_small_terminal(every_gate: Gate) -> None:
    """It begins with the decision and ends with where to read more."""
    lines = printed(every_gate, 80)
    assert len(lines) <= LINES
    assert lines[0].startswith(f"{every_gate.decision}: ")
    assert f"compat report {every_gate.run.name} --details" in " ".join(lines)


@pytest.mark.parametrize("details", [False, True])
def test_no_control_character_reaches_the_terminal(every_gate: Gate, details: bool) -> None:
    """A message could clear the screen, or hide what stands before it."""
    text = "\n".join(printed(hostile(every_gate), 80, details=details))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b" in text
