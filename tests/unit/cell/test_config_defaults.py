"""The defaults of a stack's configuration classes."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType

import pytest
from finetune_compat.cell.config_defaults import answer_to


def from_nowhere() -> str:
    raise OSError("no such device")


@dataclass
class Config:
    """Fields as configurations of Transformers have them."""

    required: int
    plain: float = 5e-5
    text: str = "adamw"
    made: list[str] = field(default_factory=list)
    broken: str = field(default_factory=from_nowhere)
    dated: str = "/home/user/runs/Nov30_01-06-44_host"
    own: object = from_nowhere
    computed: int = field(init=False, default=3)


@pytest.fixture(autouse=True)
def _stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library with one configuration class."""
    library = ModuleType("some_library")
    library.Config = Config  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_library", library)


def test_every_argument_has_its_default_as_text() -> None:
    """Without memory addresses and dated folders, which differ from run to run. What is no argument is left out."""
    assert answer_to({"classes": ["some_library:Config"]}) == {
        "Config": {
            "required": "required",
            "plain": "5e-05",
            "text": "'adamw'",
            "made": "[]",
            "broken": "made by from_nowhere (OSError)",
            "dated": "a folder named after the moment",
            "own": "<function from_nowhere>",
        }
    }


def test_classes_that_the_stack_does_not_have_are_left_out() -> None:
    """Neither their module nor the class need exist."""
    asked = ["some_library:Other", "no_library_of_that_name:Config", "some_library:Config"]
    assert list(answer_to({"classes": asked})) == ["Config"]
