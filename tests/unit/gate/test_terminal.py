"""The answer in a terminal: short enough to be read at once, and safe to print."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import gates
import pytest
from finetune_compat.contract.errors import RecordsError
from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report import markdown, publish, stored
from finetune_compat.gate.report.terminal import LINES, print_gate
from rich.console import Console


@pytest.fixture(params=sorted(gates.SCENARIOS))
def gate(request: pytest.FixtureRequest, tmp_path: Path) -> Gate:
    """The answer of every scenario."""
    run = tmp_path / request.param
    shutil.copytree(gates.FOLDER / request.param / "run", run)
    return gates.gate_of(request.param, run)


def printed(gate: Gate, width: int, *, details: bool = False) -> list[str]:
    """The lines on a terminal of this width."""
    out = io.StringIO()
    print_gate(gate, Console(file=out, width=width, color_system=None, force_terminal=False), details=details)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("details", [False, True])
def test_no_line_is_wider_than_the_terminal(gate: Gate, width: int, details: bool) -> None:
    """A terminal would wrap it anywhere."""
    assert max(map(len, printed(gate, width, details=details))) <= width


def test_the_answer_fits_into_a_small_terminal(gate: Gate) -> None:
    """It begins with the decision and ends with where to read more."""
    lines = printed(gate, 80)
    assert len(lines) <= LINES
    assert lines[0].startswith(f"{gate.decision}: ")
    assert f"compat report {gate.run.name} --details" in " ".join(lines)


def test_a_comment_is_short(gate: Gate) -> None:
    """A reviewer reads it; the decision and its reason always stand in it."""
    text = markdown.comment(gate)
    assert len(text) < 3000
    assert text.startswith(f"{markdown.MARKER}\n## {gate.decision}")


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


@pytest.mark.parametrize("details", [False, True])
def test_no_control_character_reaches_the_terminal(gate: Gate, details: bool) -> None:
    """A message could clear the screen, or hide what stands before it."""
    text = "\n".join(printed(hostile(gate), 80, details=details))
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\x1b" in text


def test_no_text_of_others_acts_as_markup_in_a_comment(gate: Gate) -> None:
    """It would notify people, hide text or link anywhere."""
    text = markdown.comment(hostile(gate)).rpartition("```sh")[0]
    assert "<script>" not in text.replace("\\<script>", "")
    assert "@everyone" not in text
    assert "\x1b" not in text and "\u202e" not in text


def test_no_text_of_others_acts_on_the_page(gate: Gate, tmp_path: Path) -> None:
    """The only markup is that of the templates."""
    publish(hostile(gate), tmp_path)
    assert "<script>alert" not in (tmp_path / "gate.html").read_text()


class TestStored:
    def test_the_answer_is_read_as_it_was_written(self, gate: Gate, tmp_path: Path) -> None:
        """`compat report` of a gate prints what the gate printed."""
        publish(gate, tmp_path)
        read = stored.read_gate(tmp_path / "gate.json")
        assert printed(read, 80, details=True) == printed(gate, 80, details=True)

    def test_a_file_that_is_no_answer(self, tmp_path: Path) -> None:
        """The error names the file and what to do."""
        path = tmp_path / "gate.json"
        path.write_text(json.dumps({"schema_version": 1}))
        with pytest.raises(RecordsError, match="Run the gate again"):
            stored.read_gate(path)
