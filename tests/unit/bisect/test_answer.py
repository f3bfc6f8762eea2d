"""The edge at which an answer names the first bad release."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from finetune_compat.bisect.answer import BisectAnswer, Edge, ReleaseResult


def answer(*bad: bool) -> BisectAnswer:
    """The answer on releases 0, 1, 2, ... that are bad or not: an edge wherever two neighbours differ."""
    results = tuple(ReleaseResult(str(number), one, "", ran=True) for number, one in enumerate(bad))
    edges = tuple(Edge(one, two, (), (), (), 1) for one, two in pairwise(results) if one.bad is not two.bad)
    return BisectAnswer(
        package="trl",
        subject="sft-full",
        condition="verdict",
        command="compat bisect",
        releases=len(results),
        bound=6,
        edges=edges,
        stretches=(),
        results=results,
        not_looked_at=(),
        older="",
        runs=len(results),
        sample_runs=len(results),
        stored=0,
        seconds=1.0,
        versions={},
        run="run",
    )


@pytest.mark.parametrize(
    ("bad", "first"),
    [
        ((False, True), "1"),
        ((False, True, False), "1"),
        ((False, True, False, True), "3"),
        ((True, False), None),
        ((True, True), None),
        ((False,), None),
    ],
)
def test_the_newest_turn_from_good_to_bad(bad: tuple[bool, ...], first: str | None) -> None:
    """A turn from bad to good is a fix. An older window was fixed since."""
    found = answer(*bad).first_bad
    assert (found.after.version if found else None) == first


def test_two_kinds_of_bad_are_no_first_bad_release() -> None:
    """The edge has no good side."""
    one, two = (ReleaseResult(version, True, shown, ran=True) for version, shown in (("1", "flat"), ("2", "raises")))
    edge = Edge(one, two, (), (), (), 1)
    assert replace(answer(True), edges=(edge,)).first_bad is None
