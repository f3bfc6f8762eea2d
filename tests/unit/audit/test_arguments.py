"""An argument is found by its position or its name."""

from __future__ import annotations

import pytest
from audit_builders import source
from finetune_compat.audit.arguments import Given
from finetune_compat.audit.values import Const, Place

ONE, TWO = Const(1), Const(2)
SCRIPT = source("f(1, b=2)\n")
GIVEN = Given([ONE], {"b": TWO}, Place(SCRIPT, SCRIPT.tree))


@pytest.mark.parametrize(
    ("place", "name", "found"),
    [
        (0, "a", ONE),
        (1, "b", TWO),
        (0, "b", TWO),
        (None, "b", TWO),
        (None, "a", None),
        (1, "c", None),
    ],
)
def test_an_argument_is_the_named_one_or_that_of_the_place(place: int | None, name: str, found: Const | None) -> None:
    """A name wins; without a place only a name counts; what is not given is None."""
    assert GIVEN.get(place, name) is found
