"""The drawing of a window: a bar a release, readable without colours, and with its text at hand."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import builders as b
from atlas_builders import FIELD, drawn, kept, on
from finetune_compat.atlas import strip

SVG = "{http://www.w3.org/2000/svg}"


def picture(count: int = 6) -> ET.Element:
    """The strip of a field with this many releases, of which the second to fifth show the issue."""
    seen = [on(f"0.{19 + i}.0") for i in range(count)]
    (found,) = drawn({"cpu": kept(*(b.frozen(one) if i in (1, 2, 3, 4) else one for i, one in enumerate(seen)))})[1][
        0
    ].strips
    return ET.fromstring(strip.drawn(found))  # noqa: S314 - our own text


def test_every_release_has_a_bar_with_its_text() -> None:
    """What a bar says stands in its title."""
    bars = picture().findall(f"{SVG}rect")
    assert [bar.get("class") for bar in bars] == ["clear", "seen", "seen", "seen", "seen", "clear"]
    titles = [bar.findtext(f"{SVG}title") or "" for bar in bars]
    assert titles[1] == "TRL 0.20.0: shows the issue; 1 of 1 cell that could (trl0.20-py311)"


def test_height_says_what_colour_says() -> None:
    """For those who see no colours, and for printers."""
    heights = {bar.get("class"): float(bar.get("height") or 0) for bar in picture().findall(f"{SVG}rect")}
    assert heights["seen"] > 2 * heights["clear"]


def test_the_edges_are_labelled() -> None:
    """Also the oldest and newest release, where there is room."""
    assert {text.text for text in picture().findall(f"{SVG}text")} >= {"0.20.0"}
    wide = [text.text for text in picture(count=45).findall(f"{SVG}text")]
    assert wide[0] == "0.20.0" and wide[-1] == "0.63.0"


def test_nothing_leaves_the_drawing() -> None:
    """Of few releases and of many."""
    for count in (3, 45, 200):
        for bar in picture(count).findall(f"{SVG}rect"):
            x, width = float(bar.get("x") or 0), float(bar.get("width") or 0)
            assert width > 0 and x >= 0 and x + width <= strip.WIDTH


def test_text_of_a_package_is_escaped() -> None:
    """A version is foreign text."""
    (found,) = drawn(FIELD)[1][0].strips
    assert not re.search("<b>", strip.drawn(dataclasses.replace(found, package="<b>")))
