"""The window of an issue, drawn over the releases of one package as SVG. It needs no scripts."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from finetune_compat.atlas import wording
from finetune_compat.atlas.issues import Release, Strip

WIDTH = 420.0
"""Width of a strip, in the units of its text, so that the text of all strips has one size."""

WIDEST = 24.0
"""Maximum width of a release."""

_TOP, _HEIGHT, _TEXT = 2.0, 14.0, 11.0
_LETTER = 5.0
"""Width of a digit of the labels."""


def drawn(strip: Strip) -> Markup:
    """The strip: a bar a release, with its text at hand, and the names of the releases at the edges."""
    step = min(WIDEST, WIDTH / max(len(strip.releases), 1))
    bars = Markup().join(_bar(strip, one, place * step, step) for place, one in enumerate(strip.releases))
    labels = Markup().join(_label(text, x) for text, x in _labels(strip.releases, step))
    head = f"{wording.package(strip.package)}: {wording.seen_on(strip)}"
    return Markup(
        '<svg class="strip" role="img" viewBox="0 0 {:.0f} {:.0f}" xmlns="http://www.w3.org/2000/svg">'
        "<title>{}</title>{}{}</svg>"
    ).format(WIDTH, _TOP + _HEIGHT + _TEXT + 2, head, bars, labels)


def _bar(strip: Strip, release: Release, x: float, step: float) -> Markup:
    kind = wording.SIGHTING_CLASSES[release.sighting]
    # Height says the same as colour.
    height = {"seen": _HEIGHT, "partly": _HEIGHT * 0.7, "clear": _HEIGHT * 0.35, "nothing": 2.0}[kind]
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"><title>{}</title></rect>'
    ).format(x + 0.5, _TOP + _HEIGHT - height, step - 1, height, kind, wording.release(strip, release))


def _labels(releases: Sequence[Release], step: float) -> list[tuple[str, float]]:
    """The oldest and newest release, and the first and last that show the issue: those that do not overlap."""
    shown = [place for place, one in enumerate(releases) if one.seen]
    wanted = [*shown[:1], *shown[-1:], 0, len(releases) - 1] if releases else []
    taken: list[tuple[str, float]] = []
    for place in dict.fromkeys(wanted):
        x = (place + 0.5) * step
        if all(
            abs(x - other) > _LETTER * max(len(text), len(releases[place].version)) + _TEXT for text, other in taken
        ):
            taken.append((releases[place].version, x))
    return taken


def _label(text: str, x: float) -> Markup:
    margin = _LETTER / 2 * len(text)
    anchor, at = ("start", 0.0) if x < margin else ("end", WIDTH) if x > WIDTH - margin else ("middle", x)
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        at, _TOP + _HEIGHT + _TEXT, anchor, text
    )
