"""The reports of a gate: HTML, Markdown, JUnit and JSON, rendered from one value."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report import answer_json, html, junit, markdown
from finetune_compat.machine.files import write_atomically

FILES = ("gate.html", "gate.md", "gate-comment.md", "gate.junit.xml", "gate.json")


def publish(gate: Gate, directory: Path) -> None:
    """Write `FILES` into `directory`, each atomically."""
    rendered = (
        html.render(gate),
        markdown.render(gate, markdown.STEP_SUMMARY),
        markdown.comment(gate),
        junit.render(gate),
        answer_json.render(gate),
    )
    for name, text in zip(FILES, rendered, strict=True):
        write_atomically(directory / name, text)
