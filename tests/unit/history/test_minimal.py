"""Delta debugging: what it returns flips the result, and nothing in it can be left out."""

from __future__ import annotations

from finetune_compat.history.minimal import minimal
from hypothesis import given
from hypothesis import strategies as st

ITEMS = st.integers(1, 12).map(lambda size: list(range(size)))


@st.composite
def causes(draw: st.DrawFn) -> tuple[list[int], frozenset[int]]:
    items = draw(ITEMS)
    return items, draw(st.frozensets(st.sampled_from(items), min_size=1))


class TestMinimal:
    @given(causes())
    def test_it_finds_exactly_the_cause(self, drawn: tuple[list[int], frozenset[int]]) -> None:
        items, cause = drawn
        assert minimal(items, lambda chosen: cause <= chosen) == cause

    @given(causes(), st.randoms(use_true_random=False))
    def test_with_sets_that_cannot_be_tried_nothing_can_be_left_out(
        self, drawn: tuple[list[int], frozenset[int]], random: st.DataObject
    ) -> None:
        items, cause = drawn
        answers: dict[frozenset[int], bool | None] = {}
        asked: list[frozenset[int]] = []

        def flips(chosen: frozenset[int]) -> bool | None:
            asked.append(chosen)
            answer = None if random.random() < 0.3 else cause <= chosen  # type: ignore[attr-defined]
            return answers.setdefault(chosen, answer)

        found = minimal(items, flips)
        assert len(asked) == len({*asked}), "each set is asked about once"
        assert found == frozenset(items) or answers[found] is True
        for item in found if len(found) > 1 else ():
            assert not answers[found - {item}], "no single change can be left out"

    @given(ITEMS)
    def test_one_cause_costs_at_most_one_run_for_each_change(self, items: list[int]) -> None:
        asked: list[frozenset[int]] = []

        def flips(chosen: frozenset[int]) -> bool:
            asked.append(chosen)
            return items[-1] in chosen

        assert minimal(items, flips) == {items[-1]}
        assert len(asked) <= len(items)
