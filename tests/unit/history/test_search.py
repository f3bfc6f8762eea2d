"""The search over releases: what it names is true, within its bound, on any history."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from finetune_compat.history.search import History, bound, next_runs, runs_left, sampled
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.integers(1, 140)


@st.composite
def histories(draw: st.DrawFn, *, skips: bool = True, states: int = 3) -> tuple[list[int | None], History[int]]:
    """The true results of releases, and what is known at first: a sample, and some stored results."""
    size = draw(SIZES)
    edges = sorted(draw(st.lists(st.integers(0, size), max_size=6)))
    truth: list[int | None] = [sum(edge <= place for edge in edges) % states for place in range(size)]
    for place in draw(st.lists(st.integers(0, size - 1), max_size=size // 2)) if skips else ():
        truth[place] = None
    free = draw(st.frozensets(st.integers(0, size - 1), max_size=5))
    known = {place: truth[place] for place in free if truth[place] is not None}
    sample = sampled([place // draw(st.integers(1, 5)) for place in range(size)], draw(st.integers(2, 20)))
    return truth, History(size, sample, known, frozenset(known))


def search(truth: list[int | None], history: History[int], width: int) -> tuple[History[int], list[int]]:
    """Run the search to its end; return what is known then, and the places that were run."""
    ran: list[int] = []
    while places := next_runs(history, width):
        assert len(places) == len({*places})
        assert not {*places} & {*history.answers}, "nothing is run twice, nor what is stored"
        ran += places
        history = replace(history, answers={**history.answers, **{place: truth[place] for place in places}})
    return history, ran


class TestSearch:
    @given(histories(), st.integers(1, 4))
    def test_every_boundary_was_run_on_both_sides_and_says_what_lies_between(
        self, drawn: tuple[list[int | None], History[int]], width: int
    ) -> None:
        truth, start = drawn
        end, _ = search(truth, start, width)
        for one in end.boundaries:
            assert end.answers[one.before] == truth[one.before] != truth[one.after] == end.answers[one.after]
            assert sorted((*one.skipped, *one.unseen)) == list(range(one.before + 1, one.after))
            assert all(truth[place] is None for place in one.skipped)
        assert {*end.unseen} == {*range(end.size)} - {*end.answers}
        assert {*end.skipped} == {place for place in end.answers if truth[place] is None}

    @given(histories(skips=False), st.integers(1, 4))
    def test_without_skips_every_boundary_is_refined(
        self, drawn: tuple[list[int | None], History[int]], width: int
    ) -> None:
        truth, start = drawn
        end, _ = search(truth, start, width)
        assert all(one.after == one.before + 1 for one in end.boundaries)

    @given(histories(), st.integers(1, 4))
    def test_the_bound(self, drawn: tuple[list[int | None], History[int]], width: int) -> None:
        truth, start = drawn
        end, ran = search(truth, start, width)
        beyond = [place for place in ran if place not in start.sample]
        assert len(beyond) <= len(end.boundaries) * (math.ceil(math.log2(end.size)) + 2)

    @given(SIZES, st.data(), st.integers(1, 4))
    def test_one_change_is_found_wherever_it_is(self, size: int, data: st.DataObject, width: int) -> None:
        edge = data.draw(st.integers(1, size))
        truth: list[int | None] = [int(place >= edge) for place in range(size)]
        end, ran = search(truth, History(size, sampled(range(size), 2), {}), width)
        assert [(one.before, one.after) for one in end.boundaries] == ([(edge - 1, edge)] if edge < size else [])
        assert len(ran) <= 2 + math.ceil(math.log2(size)) + 2

    @given(histories())
    def test_the_runs_left_are_an_estimate_that_ends_at_zero(
        self, drawn: tuple[list[int | None], History[int]]
    ) -> None:
        truth, start = drawn
        end, ran = search(truth, start, 1)
        assert runs_left(end) == 0
        assert runs_left(start) <= len(start.sample) + len(start.boundaries) * bound(start.size)
        assert bool(runs_left(start)) == bool(ran)

    def test_two_at_once_where_the_bound_allows(self) -> None:
        ends: Mapping[int, int | None] = {0: 0, 100: 1}
        assert next_runs(History(101, (0, 100), ends), 2) == (33, 66)

    def test_windows_inside_the_sample(self) -> None:
        truth: list[int | None] = [0] * 40 + [1] * 6 + [0] * 54
        end, ran = search(truth, History(100, (0, 20, 42, 60, 80, 99), {}), 2)
        assert end.stretches == ((0, 39), (40, 45), (46, 99))
        assert len(ran) <= 6 + 2 * bound(100)


class TestSample:
    @given(st.lists(st.integers(0, 9), max_size=80).map(sorted), st.integers(2, 20))
    def test_it_holds_both_ends_and_ends_of_groups(self, groups: list[int], most: int) -> None:
        sample = sampled(groups, most)
        assert list(sample) == sorted({*sample})
        assert len(sample) <= most
        if groups:
            assert {0, len(groups) - 1} <= {*sample}
            assert all(groups[place] != groups[place + 1] for place in sample[1:-1])

    def test_all_groups_where_they_fit(self) -> None:
        assert sampled(["0.1", "0.1", "0.2", "0.3", "0.3"], 10) == (0, 1, 2, 4)


@pytest.mark.parametrize(("size", "runs"), [(1, 2), (2, 3), (3, 4), (64, 8), (65, 9), (100, 9)])
def test_the_bound_is_the_logarithm_and_two(size: int, runs: int) -> None:
    assert bound(size) == runs == math.ceil(math.log2(size)) + 2
