"""Draws every run of the sweeps as a dot in SVG: one strip for each kind, with the fall of eval loss on the x axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from finetune_compat.checks.case import LUCK
from finetune_compat.checks.objectives import MINIMUM_FALL
from finetune_compat.evidence.calibration import Sweep

WIDTH, LEFT, RIGHT, STRIP, HEAD, FOOT = 900, 170, 50, 34, 40, 44

TICKS = (-0.01, -0.001, 0.0, 0.001, 0.01, 0.05, 0.1, 0.2)
LINEAR = 0.0005
"""The scale is linear below this share and logarithmic above, because dead and healthy are powers of ten apart."""

COLOURS = ("#1b7837", "#b2182b", "#d6604d", "#e08214", "#8073ac", "#542788")


def drawing(sweeps: Sequence[Sweep]) -> str:
    """All sweeps as SVG, one below the other."""
    panels = [_panel(sweep) for sweep in sweeps]
    heights = [HEAD + STRIP * len(sweep.kinds) + FOOT for sweep in sweeps]
    placed = [f'<g transform="translate(0 {sum(heights[:i])})">\n{panel}\n</g>' for i, panel in enumerate(panels)]
    total = sum(heights)
    size = f'width="{WIDTH}" height="{total}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([opening, f'<rect {size} fill="white"/>', *placed, "</svg>\n"])


def _panel(sweep: Sweep) -> str:
    bottom = HEAD + STRIP * len(sweep.kinds)
    first, last = sweep.seeds
    drawn = [_text(LEFT, 18, f"{sweep.cell}, seeds {first} to {last}: share of eval loss lost", weight="bold")]
    drawn += [
        _line(place(tick), HEAD, bottom, "#dddddd") + _text(place(tick), bottom + 16, _share(tick)) for tick in TICKS
    ]
    for share, label in ((LUCK, "luck at most"), (MINIMUM_FALL, "healthy at least")):
        end = "end" if share == LUCK else "start"
        drawn.append(_line(place(share), HEAD, bottom, "#444444"))
        drawn.append(_text(place(share), bottom + 34, f"{label} {share:.0%}", anchor=end))
    for row, (name, kind) in enumerate(sweep.kinds.items()):
        middle = HEAD + STRIP * row + STRIP / 2
        drawn.append(_text(LEFT - 12, middle + 4, name, anchor="end"))
        drawn.append(_dots(kind.falls, middle, COLOURS[row]))
    return "\n".join(drawn)


def place(fall: float) -> float:
    """The x position of a fall, in pixels from the left."""
    low, high = _scaled(TICKS[0]), _scaled(TICKS[-1])
    return LEFT + (WIDTH - LEFT - RIGHT) * (_scaled(fall) - low) / (high - low)


def _scaled(fall: float) -> float:
    return math.asinh(fall / LINEAR)


def _dots(falls: Sequence[float], middle: float, colour: str) -> str:
    """Dots as one path of points with round ends, which takes a tenth of the text of circles."""
    # Spread over the strip by the golden ratio, so that dots of equal value do not overlap.
    spread = [(index * 0.618034 % 1 - 0.5) * STRIP * 0.7 for index in range(len(falls))]
    points = "".join(f"M{place(fall):.1f} {middle + off:.1f}h0" for fall, off in zip(falls, spread, strict=True))
    ends = 'stroke-width="3" stroke-linecap="round" stroke-opacity="0.6"'
    return f'<path d="{points}" stroke="{colour}" {ends} fill="none"/>'


def _line(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "middle", weight: str = "normal") -> str:
    anchor = "start" if weight == "bold" else anchor
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(text)}</text>'


def _share(share: float) -> str:
    return f"{share:.1%}" if 0 < abs(share) < 0.01 else f"{share:.0%}"  # noqa: PLR2004 - whole per cents need no more
