"""What operators give, as Python computes it, where the values are known."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from finetune_compat.audit.values import (
    Class,
    Const,
    Function,
    Instance,
    Items,
    Made,
    Model,
    Module,
    Table,
    Tokenizer,
    Training,
    Value,
)

MOST_HELD = 10_000
"""Items of a list. Forty lines that double one would fill any memory."""

LARGEST = 1e12
"""Absolute value of a number that is calculated."""

LONGEST = 10_000
"""Characters of a text that is calculated."""


def truthy(value: Value) -> bool | None:
    """Whether a value counts as true; None if that is not known."""
    match value:
        case Const():
            return bool(value.value)
        case Items() | Table():
            return None if value.open and not value.items else bool(value.items)
        case Model() | Made() | Training() | Tokenizer() | Function() | Class() | Instance() | Module():
            return True
    return None


def any_default(values: Sequence[Value]) -> bool:
    """Whether one of these values is a default."""
    return any(value.default for value in values)


def compared(op: ast.cmpop, left: Value, right: Value) -> bool | None:
    """The result of a comparison; None if that is not known."""
    match op:
        case ast.Is() | ast.Eq():
            return equal(left, right)
        case ast.IsNot() | ast.NotEq():
            same = equal(left, right)
            return None if same is None else not same
        case ast.In() | ast.NotIn():
            found = _contains(left, right)
            return None if found is None else found is isinstance(op, ast.In)
        case _ if isinstance(left, Const) and isinstance(right, Const):
            return _ordered(op, left.value, right.value)
    return None


def equal(left: Value, right: Value) -> bool | None:
    """Whether two values are equal; None if that is not known."""
    if isinstance(left, Const) and isinstance(right, Const):
        return bool(left.value == right.value)
    pair = (left, right)
    if any(isinstance(one, Const) and one.value is None for one in pair):
        other = right if isinstance(left, Const) else left
        return False if type(other) is not Value and not isinstance(other, Const) else None
    return None


def _contains(left: Value, right: Value) -> bool | None:
    """Whether `left` is in `right`."""
    if not isinstance(left, Const):
        return None
    if isinstance(right, Table):
        return True if left.value in right.items else None if right.open else False
    if isinstance(right, Items) and all(isinstance(one, Const) for one in right.items):
        return left.value in [one.value for one in right.items if isinstance(one, Const)] or (
            None if right.open else False
        )
    if isinstance(right, Const) and isinstance(right.value, str) and isinstance(left.value, str):
        return left.value in right.value
    return None


_ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _ordered(op: ast.cmpop, left: object, right: object) -> bool | None:
    try:
        return bool(_ORDERS[type(op)](left, right))
    except (TypeError, KeyError):
        return None


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def chained(one: Items, other: Items) -> Items:
    """The items of both lists; of more than `MOST_HELD`, the first ones."""
    if len(one.items) + len(other.items) > MOST_HELD:
        return Items([*one.items, *other.items[: max(0, MOST_HELD - len(one.items))]], open=True)
    return Items([*one.items, *other.items], one.open or other.open)


def calculated(op: ast.operator, left: Value, right: Value) -> Value:
    """The result of an operation on two numbers or texts; unknown if it is an error, or large."""
    if not (isinstance(left, Const) and isinstance(right, Const)):
        return Value()
    numbers = all(isinstance(one.value, int | float) and abs(one.value) < LARGEST for one in (left, right))
    texts = isinstance(op, ast.Add | ast.Div) and all(isinstance(one.value, str) for one in (left, right))
    if not numbers and not texts:
        return Value()
    if isinstance(op, ast.Div) and texts:  # Path("configs") / "train.yaml"
        return Const(f"{left.value.rstrip('/')}/{right.value}", default=left.default or right.default)
    try:
        made = _OPERATIONS[type(op)](left.value, right.value)
    except (KeyError, ArithmeticError, TypeError, ValueError):
        return Value()
    return (
        Value() if isinstance(made, str) and len(made) > LONGEST else Const(made, default=left.default or right.default)
    )
