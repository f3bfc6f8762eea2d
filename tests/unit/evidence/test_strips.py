"""The drawing of falls of eval loss: one strip a kind."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from deep_builders import LLAMA, QWEN2, long
from finetune_compat.evidence.strips import drawing, place


def test_what_falls_more_is_drawn_further_right() -> None:
    """The axis goes from the lowest tick to the highest, on both sides of zero."""
    falls = [-0.01, -0.001, 0.0, 0.0001, 0.01, 0.05, 0.2]
    places = [place(fall) for fall in falls]
    assert places == sorted(places) and len(set(places)) == len(places)


def test_sweeps_are_drawn_below_each_other_with_a_strip_for_each_kind() -> None:
    """The file is well-formed, and every panel begins where the one before it ends."""
    sweeps = [long(), long(200, 399, LLAMA)]
    root = ET.fromstring(drawing(sweeps))  # noqa: S314 - our own
    panels = [child for child in root if child.tag.endswith("}g")]
    tops = [int(panel.get("transform", "").removeprefix("translate(0 ").removesuffix(")")) for panel in panels]
    assert tops[0] == 0
    assert int(root.get("height", "")) == 2 * tops[1]
    for panel, cell, sweep in zip(panels, (QWEN2, LLAMA), sweeps, strict=True):
        texts = [found.text or "" for found in panel if found.tag.endswith("}text")]
        assert texts[0].startswith(f"{cell}, seeds {sweep.seeds[0]} to {sweep.seeds[1]}: ")
        assert [text for text in texts if text in sweep.kinds] == list(sweep.kinds)
