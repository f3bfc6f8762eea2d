"""The wording that checks of a saved adapter share."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_stories import whole
from adapters import PREFIX, write
from finetune_compat.inspect.case import Seen, asked_whole, named, named_modules, named_places, share_of, so_many
from finetune_compat.inspect.saved import read_adapter


@pytest.mark.parametrize(
    ("names", "text"),
    [(["a"], "(a)"), (["a", "b", "c"], "(a, b, c)"), (["a", "b", "c", "d", "e"], "(a, b, c and 2 more)")],
)
def test_three_names_stand_in_a_sentence(names: list[str], text: str) -> None:
    """The others are counted."""
    assert named(names) == text


def test_places_are_named_without_the_prefix_and_layers_as_a_range() -> None:
    """A tensor of no module has its own name."""
    names = [f"{PREFIX}model.layers.{layer}.q_proj.lora_A.weight" for layer in range(3)]
    assert named_places(names) == "(model.layers.0-2.q_proj.lora_A.weight)"
    assert named_modules(names) == "(model.layers.0-2.q_proj)"
    assert named_modules(["prompt_embeddings"]) == "(prompt_embeddings)"


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 1, "1 of 1 module"), (2, 4, "2 of 4 modules"), (4, 4, "all 4 modules")]
)
def test_a_share_is_all_only_of_several(part: int, whole: int, text: str) -> None:
    """All of one module is one."""
    assert share_of(part, whole, "module") == text


def test_a_verb_agrees_with_its_number() -> None:
    """Thousands have separators."""
    assert so_many(1, "module", "has", "have") == "1 module has"
    assert so_many(2_000, "module", "has", "have") == "2,000 modules have"


def test_a_sentence_keeps_all_places() -> None:
    """It is text for everything else."""
    seen = Seen("one (a)", ("a", "b"))
    assert (seen, seen.where, Seen("two").where) == ("one (a)", ("a", "b"), ())


def test_what_is_saved_whole_is_matched_by_the_end_of_its_modules_name(tmp_path: Path) -> None:
    """As PEFT does: also in the middle of a part, and with everything inside the module."""
    arrays = whole("classifier.dense.weight", "model.layers.0.input_layernorm.weight")
    saved = read_adapter(write(tmp_path / "a", arrays, modules_to_save=["classifier", "norm", "score"]))
    assert asked_whole(saved) == [
        ("classifier", "classifier.dense"),
        ("norm", "model.layers.0.input_layernorm"),
    ]
