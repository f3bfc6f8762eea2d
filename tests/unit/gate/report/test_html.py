"""The answer as a page."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.gate.decision import Gate
from finetune_compat.gate.report import publish
from gate_printing import hostile


def test_no_text_of_others_acts_on_the_page(every_gate: Gate, tmp_path: Path) -> None:
    """The only markup is that of the templates."""
    publish(hostile(every_gate), tmp_path)
    assert "<script>alert" not in (tmp_path / "gate.html").read_text()
