"""Small charts as inline SVG. The page defines the colours; no information is in a colour alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from markupsafe import Markup, escape

WIDTH = 360
"""Width in units, which are pixels on a phone: a chart that is readable there is readable everywhere."""

LABEL, VALUE = 66, 78
"""Space left of the bars for the stage, and right of the bars for the number."""
BAR, GAP = 11, 8

HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 210, 44, 12, 8, 34
"""Height and margins of a plot of losses."""

GRID = 4
"""Number of horizontal intervals in a plot of losses."""


@dataclass(frozen=True, slots=True)
class Bars:
    """A series of a stage chart: a number for each stage, or the reason why there is none."""

    name: str
    values: Sequence[int | None]
    absent: Sequence[str]


def stage_chart(title: str, stages: Sequence[str], series: Sequence[Bars]) -> Markup:
    """Trainable parameters by stage, a group of bars each. The last series is filled, the others are outlined.

    Args:
        title: title for screen readers.
        stages: names of the groups, in order.
        series: the series, each with one value for each stage.
    """
    largest = max((value for bars in series for value in bars.values if value), default=1)
    room = WIDTH - LABEL - VALUE
    group = BAR * len(series) + GAP
    drawn: list[Markup] = []
    for row, stage in enumerate(stages):
        top = row * group + GAP
        drawn.append(_text(LABEL - 8, top + BAR * len(series) / 2 + 4, stage, anchor="end"))
        for place, bars in enumerate(series):
            y, value = top + place * BAR, bars.values[row]
            kind = "filled" if place == len(series) - 1 else "outlined"
            width = room * (value or 0) / largest
            if value:
                drawn.append(_rect(LABEL, y + 1, max(width, 1.5), BAR - 2, kind))
            label = bars.absent[row] if value is None else f"{value:,}"
            lost = value == 0 and any(other.values[row] for other in series)
            style = "muted" if value is None else ("zero" if lost else "")
            drawn.append(_text(LABEL + width + 5, y + BAR - 1.5, label, style=style, small=True))
    description = "; ".join(f"{bars.name}: {_spoken(stages, bars)}" for bars in series)
    return _svg(title, description, group * len(stages) + GAP, drawn)


def _spoken(stages: Sequence[str], bars: Bars) -> str:
    pairs = zip(stages, bars.values, bars.absent, strict=True)
    return ", ".join(f"{stage} {absent if value is None else format(value, ',')}" for stage, value, absent in pairs)


@dataclass(frozen=True, slots=True)
class Curve:
    """Training loss by step, from step 1, and eval loss before the first and after the last step."""

    name: str
    losses: Sequence[float]
    before: float | None
    after: float | None


def loss_chart(title: str, curves: Sequence[Curve]) -> Markup | None:
    """Losses of several runs on one plot: the first solid with dots, the second dashed with squares. Hollow marks at
    both ends are the eval loss. None if no loss is finite.
    """
    known = [value for curve in curves for value in (*curve.losses, curve.before, curve.after) if _finite(value)]
    steps = max((len(curve.losses) for curve in curves), default=0)
    if not known or not steps:
        return None
    low, high = min(known), max(known)
    margin = (high - low) * 0.05 or abs(high) * 0.01 or 1.0
    low, high = low - margin, high + margin

    def x(step: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / (steps + 1)

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low)

    drawn: list[Markup] = []
    for line in range(GRID + 1):
        loss = low + (high - low) * line / GRID
        drawn.append(_line(LEFT, y(loss), WIDTH - RIGHT, y(loss)))
        drawn.append(_text(LEFT - 6, y(loss) + 4, f"{loss:.{_decimals(high - low)}f}", anchor="end", small=True))
    drawn += [_text(x(step), HEIGHT - BOTTOM + 14, str(step), small=True, anchor="middle") for step in _ticks(steps)]
    drawn.append(_text(WIDTH / 2, HEIGHT - 4, "training step", small=True, anchor="middle", style="muted"))
    for place, curve in enumerate(curves):
        points = [(x(step), y(loss)) for step, loss in enumerate(curve.losses, 1) if _finite(loss)]
        drawn.append(_curve(points, place))
        drawn += [_mark(at, height, place) for at, height in points]
        ends = ((0, curve.before), (steps + 1, curve.after))
        drawn += [_mark(x(step), y(loss), place, hollow=True) for step, loss in ends if _finite(loss)]
    description = "; ".join(f"{curve.name}: {_spoken_losses(curve)}" for curve in curves)
    return _svg(title, description, HEIGHT, drawn)


def _spoken_losses(curve: Curve) -> str:
    loss = [f"training loss {curve.losses[0]:.4f} at step 1, {curve.losses[-1]:.4f} at step {len(curve.losses)}"]
    ends = (curve.before, curve.after)
    evaluated = "eval loss " + " to ".join("unknown" if value is None else f"{value:.4f}" for value in ends)
    return ", ".join([*(loss if curve.losses else []), evaluated])


def swatch(place: int) -> Markup:
    """The symbol of a curve in a legend."""
    drawn = [_curve([(1, 6), (27, 6)], place), _mark(14, 6, place)]
    return Markup('<svg class="swatch" width="28" height="12" aria-hidden="true">{}</svg>').format(Markup().join(drawn))


def key(kind: str) -> Markup:
    """The symbol of a series of bars in a legend: `filled` or `outlined`."""
    drawn = _rect(1, 1, 18, 10, kind)
    return Markup('<svg class="swatch" width="20" height="12" aria-hidden="true">{}</svg>').format(drawn)


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _decimals(extent: float) -> int:
    """Number of decimals that distinguish neighbouring grid lines."""
    return max(0, min(6, math.ceil(-math.log10(extent / GRID)) + 1))


def _ticks(steps: int) -> list[int]:
    return [1, *sorted({round(steps / 2), steps} - {0, 1})]


def _svg(title: str, description: str, height: float, drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" role="img" viewBox="0 0 {} {:.0f}" xmlns="http://www.w3.org/2000/svg">'
        "<title>{}</title><desc>{}</desc>{}</svg>"
    ).format(WIDTH, height, title, description, Markup().join(drawn))


def _text(x: float, y: float, text: str, *, anchor: str = "start", style: str = "", small: bool = False) -> Markup:
    classes = " ".join(name for name in (style, "small" if small else "") if name)
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(
        x, y, anchor, classes, escape(text)
    )


def _rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"/>').format(
        x, y, width, height, kind
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" class="grid"/>').format(x1, y1, x2, y2)


def _curve(points: Sequence[tuple[float, float]], place: int) -> Markup:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Markup('<path d="M{}" class="curve c{}"/>').format(path, place) if points else Markup()


def _mark(x: float, y: float, place: int, *, hollow: bool = False) -> Markup:
    kind = "hollow" if hollow else "mark"
    if place == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" class="{} c0"/>').format(x, y, 4 if hollow else 2.6, kind)
    side = 8 if hollow else 5
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{}" height="{}" class="{} c{}"/>').format(
        x - side / 2, y - side / 2, side, side, kind, place
    )
