"""A gate's answer, rendered four ways from one value: HTML, Markdown, JUnit, JSON."""

from __future__ import annotations

from pathlib import Path

from harness.gate.decision import Gate
from harness.report.gate import html, junit, machine, markdown
from harness.results import write_atomically

FILES = ("gate.html", "gate.md", "gate-comment.md", "gate.junit.xml", "gate.json")


def publish(gate: Gate, directory: Path) -> None:
    """Write `FILES` into `directory`, each whole or not at all."""
    rendered = (
        html.render(gate),
        markdown.render(gate, markdown.STEP_SUMMARY),
        markdown.render(gate, markdown.COMMENT),
        junit.render(gate),
        machine.render(gate),
    )
    for name, text in zip(FILES, rendered, strict=True):
        write_atomically(directory / name, text)
