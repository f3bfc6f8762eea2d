"""Objects of the project have the methods and fields of their class."""

from __future__ import annotations

import pytest
from audit_builders import computed, followed, value_of
from finetune_compat.audit.values import Instance, const

PROGRAMS = [
    "class A:\n    y = 1\n    def f(self):\n        return self.y\nx = A().f()",
    "class A:\n    def __init__(self, y):\n        self.y = y\nx = A(3).y",
    "class A:\n  def f(self):\n    return 1\nclass B(A):\n  def f(self):\n    return super().f() + 1\nx = B().f()",
    "class A:\n    @property\n    def y(self):\n        return 5\nx = A().y",
    "class A:\n    @staticmethod\n    def f(a):\n        return a\nx = A.f(5)",
    "class A:\n    def __call__(self, a):\n        return a + 1\nx = A()(1)",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


def test_fields_of_a_dataclass_are_defaults() -> None:
    """Those of a base first; what is given replaces them."""
    program = (
        "from dataclasses import dataclass, field\n"
        "@dataclass\nclass A:\n    a: int = 1\n    b: int = field(default=2)\n"
        "@dataclass\nclass B(A):\n    c: int = 3\nx = B(c=4)\n"
    )
    found = value_of(program)
    assert isinstance(found, Instance)
    assert {name: (const(one), one.default) for name, one in found.attributes.items()} == {
        "a": (1, True),
        "b": (2, True),
        "c": (4, False),
    }
