"""Recipes: which fields change the address, and which observations contradict a recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
from finetune_compat.contract.recipe import Recipe, contradiction, from_dict, to_dict
from finetune_compat.contract.records import DeviceKind, Observation, to_json
from hypothesis import given
from hypothesis import strategies as st
from store_builders import recipe_of, seen


def parsed(observation: Observation) -> dict[str, object]:
    """The observation as parsed JSON."""
    found: dict[str, object] = json.loads(to_json(observation))
    return found


OTHER: dict[str, object] = {
    "cell": "trl0.23-py311/sft-full[qwen2-full-gc]@cpu",
    "lock_sha256": "c" * 64,
    "python": "3.11.8",
    "torch": "2.13.0+cu130",
    "base_torch": True,
    "beside": ("triton 3.7.0",),
    "device": "aarch64",
    "features": ("other",),
    "sources": "c" * 64,
    "given": "c" * 64,
    "model": "sha256:1",
    "steps": 20,
    "seed": 1,
    "attention": "eager",
    "handicap": "frozen",
    "deep": True,
    "schema": 2,
}


def test_an_address_is_the_digest_of_canonical_json() -> None:
    """Keys are sorted, without blanks, so that anyone can calculate it."""
    recipe = recipe_of(seen())
    fields = {name: value for name, value in dataclasses.asdict(recipe).items() if name != "beside"}
    for beside in ({}, {"beside": ("nvidia-cublas 13.1.0.3", "triton 3.7.0")}):
        text = json.dumps({**fields, **beside}, sort_keys=True, separators=(",", ":"))
        assert dataclasses.replace(recipe, **beside).address == hashlib.sha256(text.encode()).hexdigest()


@given(st.lists(st.text()), st.text())
def test_addresses_of_like_recipes_are_those_of_each(cells: list[str], attention: str) -> None:
    """This holds for any names."""
    recipe = recipe_of(seen(), attention=attention)
    assert recipe.addresses(cells) == {cell: dataclasses.replace(recipe, cell=cell).address for cell in cells}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Recipe)])
def test_every_field_makes_another_address(field: str) -> None:
    """A recipe with any other field is another question."""
    recipe = recipe_of(seen())
    assert dataclasses.replace(recipe, **{field: OTHER[field]}).address != recipe.address  # type: ignore[arg-type]


@given(st.tuples(st.text(), st.text()), st.integers(), st.text())
def test_a_recipe_survives_json(features: tuple[str, ...], seed: int, name: str) -> None:
    """This holds for any names; the address is the same."""
    recipe = recipe_of(seen(), features=features, seed=seed, device=name)
    again = from_dict(json.loads(json.dumps(to_dict(recipe))))
    assert (again, again.address) == (recipe, recipe.address)


def test_an_observation_of_its_recipe_contradicts_nothing() -> None:
    """The CPU's model name is not part of the recipe."""
    assert contradiction(recipe_of(seen()), parsed(seen())) == ""


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("torch", "2.14.0", f"torch {seen().stack.resolved['torch']}, expected 2.14.0"),
        ("python", "3.11.99", f"Python {seen().stack.python}, expected 3.11.99"),
        ("seed", 3, f"seed {seen().seed}, expected 3"),
        ("steps", 11, "steps 10, expected 11"),
        ("handicap", "frozen", "handicap None, expected frozen"),
        ("base_torch", not seen().stack.base_torch, f"another torch {seen().stack.base_torch}, expected "),
    ],
)
def test_a_contradicting_field_is_named(field: str, value: object, said: str) -> None:
    """The message has both values."""
    assert contradiction(recipe_of(seen(), **{field: value}), parsed(seen())).startswith(said)


def test_on_a_gpu_its_name_must_agree() -> None:
    """On a CPU the recipe has the architecture's name, which an observation does not hold."""
    device = dataclasses.replace(seen().device, kind=DeviceKind.CUDA, name="NVIDIA H200")
    found = dataclasses.replace(seen(), device=device)
    assert contradiction(recipe_of(found, device="NVIDIA H200"), parsed(found)) == ""
    assert (
        contradiction(recipe_of(found, device="NVIDIA L4"), parsed(found)) == "device NVIDIA H200, expected NVIDIA L4"
    )
