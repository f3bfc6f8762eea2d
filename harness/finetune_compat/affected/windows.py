"""Whether a range of versions allows a version of a window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

_ZERO = Version("0")


def allows(asked: SpecifierSet, window: SpecifierSet) -> bool:
    """Whether a version exists that both `asked` and `window` contain."""
    both = asked & window
    return any(both.contains(version, prereleases=True) for version in probes((asked, window)))


def excludes(asked: SpecifierSet, window: SpecifierSet) -> bool:
    """Whether a version exists that `asked` contains and `window` does not."""
    return any(
        asked.contains(version, prereleases=True) and not window.contains(version, prereleases=True)
        for version in probes((asked, window))
    )


def probes(sets: Iterable[SpecifierSet]) -> Iterator[Version]:
    """Versions of which at least one is in each part that the edges of `sets` cut the line of versions into.

    They are 0, every edge, and a version between every edge and the next higher one.
    """
    yield _ZERO
    for edge in {edge for one in sets for edge in edges(one)}:
        yield edge
        yield _just_above(edge)


@cache
def edges(specifiers: SpecifierSet) -> tuple[Version, ...]:
    """The versions that `specifiers` name, and for `==1.2.*` and `~=1.2.3` those where the range ends."""
    return tuple(edge for specifier in specifiers for edge in _edges(specifier.operator, specifier.version))


def _edges(operator: str, text: str) -> Iterator[Version]:
    try:
        version = Version(text.removesuffix(".*"))
    except InvalidVersion:  # `===` compares any text
        return
    yield version
    if text.endswith(".*") or operator == "~=":
        release = version.release if text.endswith(".*") else version.release[:-1]
        yield Version(".".join(map(str, (*release[:-1], release[-1] + 1))))


def _just_above(version: Version) -> Version:
    # Neither a post-release nor a local version, which `>` leaves out.
    release = (*version.release, *(0,) * max(0, 6 - len(version.release)), 1)
    return Version(".".join(map(str, release)))
