"""The arguments of a stack's classes."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from finetune_compat.cell.parameters import answer_to


class Trainer:
    """A class as a library has it."""

    def __init__(self, model: object, args: object = None, *, peft_config: object = None, **rest: object) -> None:
        """Nothing."""


def test_arguments_are_those_of_the_constructor_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes and modules that are missing are left out."""
    library = ModuleType("some_library")
    library.Trainer = Trainer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_library", library)
    asked = ["some_library:Trainer", "some_library:Other", "no_library_of_that_name:Trainer"]
    assert answer_to({"classes": asked}) == {"some_library:Trainer": ["model", "args", "peft_config", "rest"]}
