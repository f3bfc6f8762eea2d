"""Operators give what Python gives, and what is not known stays unknown."""

from __future__ import annotations

import pytest
from audit_builders import computed, followed, plain, value_of
from finetune_compat.audit.operations import MOST_HELD, truthy
from finetune_compat.audit.values import Const, External, Items, Table, Value

PROGRAMS = [
    "x = 1 + 2 * 3 - 7 // 2",
    "x = -5 % 3",
    "x = 'a' + 'b'",
    "x = [1] + [2]",
    "x = {'a': 1} | {'a': 2}",
    "x = 3 in [1, 3]",
    "x = 'a' not in {'a': 1}",
    "x = 'b' in 'abc'",
    "x = 1 < 2",
    "x = 'a' == 'b'",
    "x = None is None",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


@pytest.mark.parametrize(
    "program",
    [
        "from elsewhere import y\nx = y + 1",
        "x = 1 / 0",
        "x = 10 ** 10 ** 10",
        "x = 'a' * 10",
        "x = 'a' - 'b'",
        "x = 'a' < 1",
    ],
)
def test_what_is_not_known_is_no_value(program: str) -> None:
    """Neither an error of the script, nor a number that is too large, ends the audit."""
    assert plain(value_of(program)) is Value


@pytest.mark.parametrize("line", ["x = x + x", "x += x", "x = [*x, *x]", "x = f(*x, *x)"])
def test_a_list_that_doubles_has_an_end(line: str) -> None:
    """Forty such lines would fill any memory."""
    found = value_of("def f(*items):\n    return items\nx = [1]\n" + f"{line}\n" * 18)
    assert isinstance(found, Items)
    assert (len(found.items), found.open) == (MOST_HELD, True)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        (Const(0), False),
        (Const("a"), True),
        (Items([]), False),
        (Items([], open=True), None),
        (Items([Value()], open=True), True),
        (Table({}), False),
        (Value(), None),
        (External("trl.SFTTrainer"), None),
    ],
)
def test_what_counts_as_true(value: Value, truth: bool | None) -> None:
    """As in Python, where it is known."""
    assert truthy(value) is truth
