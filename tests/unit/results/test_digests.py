"""The digests of a baseline: a cell's recipe follows from them, or is not known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from builders import FULL, healthy
from finetune_compat.contract.errors import RecordsError
from finetune_compat.contract.recipe import Recipe
from finetune_compat.contract.records import Observation
from finetune_compat.results.digests import Digests, digests_of, read_digests, write_digests

OTHER = "trl0.22-py311"


def recipe(seen: Observation, **changes: object) -> Recipe:
    found = Recipe(
        cell=seen.cell,
        lock_sha256=seen.stack.lock_sha256,
        python="3.11.7",
        torch="2.13.0+cpu",
        base_torch=False,
        device="x86_64",
        features=("without_triton",),
        sources=f"sources of {seen.flow}",
        given=f"values of {seen.flow} and {seen.variant.model}",
        model="tiny",
        steps=10,
        seed=0,
        attention="sdpa",
        handicap=None,
        deep=seen.flow == "sft-full",
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


SEEN = [healthy(), healthy("sft-full", FULL), healthy("sft-full", FULL, stack=OTHER)]
CELLS = {seen.cell: seen for seen in SEEN}
RECIPES = {cell: recipe(seen) for cell, seen in CELLS.items()}


def test_recipes_follow_from_their_parts(tmp_path: Path) -> None:
    """Also after they were written and read."""
    write_digests(tmp_path, digests_of(CELLS, RECIPES, {"C104": "5f"}))
    found = read_digests(tmp_path)
    assert found is not None
    assert {cell: found.recipe(seen) for cell, seen in CELLS.items()} == RECIPES
    assert (found.unknown, found.checks) == ((), {"C104": "5f"})
    assert found.sources == {"sft-peft-model": "sources of sft-peft-model", "sft-full": "sources of sft-full"}
    assert found.deep == ("sft-full[qwen2-full-gc]@cpu",)


def test_a_cell_without_a_known_recipe_is_unknown() -> None:
    """Though the parts of the others would make one."""
    first, second, third = CELLS
    found = digests_of(CELLS, {cell: RECIPES[cell] for cell in (first, third)}, {})
    assert (found.recipe(CELLS[second]), found.recipe(CELLS[third])) == (None, RECIPES[third])
    assert found.unknown == (second,)


def test_cells_of_one_flow_with_other_sources_are_unknown() -> None:
    """The digests name one of them; no cell gets a recipe that is not its own."""
    second, third = list(CELLS)[1:]
    mixed = {**RECIPES, third: recipe(CELLS[third], sources="other")}
    found = digests_of(CELLS, mixed, {})
    assert len(found.unknown) == 1
    assert {cell: found.recipe(CELLS[cell]) for cell in (second, third)} == {
        cell: None if cell in found.unknown else mixed[cell] for cell in (second, third)
    }


@pytest.mark.parametrize("part", ["sources", "given", "locks", "environments", "options"])
def test_a_part_that_is_not_recorded_leaves_the_recipe_unknown(part: str) -> None:
    """Nothing is guessed."""
    found = digests_of(CELLS, RECIPES, {})
    without = dataclasses.replace(found, **{part: getattr(Digests(), part)})
    assert [without.recipe(seen) for seen in SEEN] == [None] * len(SEEN)


def test_a_run_without_digests_has_none(tmp_path: Path) -> None:
    """As every run that is not a baseline."""
    assert read_digests(tmp_path) is None


def test_digests_that_cannot_be_read_are_one_message(tmp_path: Path) -> None:
    """With where they are."""
    (tmp_path / "digests.json").write_text("[]", encoding="utf-8")
    with pytest.raises(RecordsError, match="not the digests of a baseline") as caught:
        read_digests(tmp_path)
    assert str(tmp_path / "digests.json") in str(caught.value)
