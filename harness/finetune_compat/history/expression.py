"""Expressions over an observation, such as `stages.trainer.trainable == 0`: parsed and evaluated here, never by Python.

Names are the fields of an observation (`contract/records.py`), and `stages` is its censuses by stage. Allowed are
comparisons, `and`, `or`, `not`, arithmetic, indexes, `len` and `abs`. Names are checked when the text is read, so a
misspelt one is an error before anything runs.
"""

from __future__ import annotations

import ast
import dataclasses
import operator
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.records import CENSUS_STAGES, Census, Observation, Stage

LONGEST = 500
"""Maximum number of characters of an expression."""

_STAGES = "stages"
_OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {"len": len, "abs": abs}


class Missing(Exception):
    """An observation does not have what the expression asks for."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression."""

    text: str
    _root: ast.expr

    @property
    def is_number(self) -> bool | None:
        """Whether its value is a number; False if it holds or not; None where the declared types do not say."""
        match self._root:
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return False
            case ast.BinOp() | ast.UnaryOp() | ast.Call():
                return True
            case ast.Name() | ast.Attribute() | ast.Subscript():
                declared = _type_of(self._root, self.text)
                return {bool: False, int: True, float: True}.get(declared)
            case _:
                return None

    def value(self, seen: Observation) -> Any:
        """The value for one observation.

        Raises:
            Missing: the observation does not have a part that is asked for.
        """
        try:
            return _value(self._root, _names(seen))
        except (ArithmeticError, IndexError, KeyError, TypeError) as error:
            raise Missing(f"{self.text}: {error}") from None

    def shown(self, seen: Observation) -> str:
        """The parts of the observation that the expression names, with their values."""
        return ", ".join(f"{ast.unparse(path)} = {_found(path, _names(seen))}" for path in _paths(self._root))


def parse(text: str, where: str) -> Expression:
    """Read an expression. `where` is the option that errors name.

    Raises:
        CompatError: it is not an expression, or it names something that no observation has.
    """
    try:
        root = ast.parse(text.strip(), mode="eval").body if len(text) <= LONGEST else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        root = None
    if root is None:
        raise _refused(f"{text[:LONGEST]!r} is no expression", where)
    for node in ast.walk(root):
        _check_kind(node, where)
    for path in _paths(root):
        _type_of(path, where)
    return Expression(text.strip(), root)


def _check_kind(node: ast.AST, where: str) -> None:
    simple = (ast.Attribute, ast.Subscript, ast.Name, ast.Load, ast.Constant, ast.BoolOp, ast.And, ast.Or)
    shapes = (ast.UnaryOp, ast.BinOp, ast.Compare, *_OPERATORS)
    call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, (*simple, *shapes)) or (call and len(node.args) == 1 and not node.keywords):  # type: ignore[attr-defined]
        return
    shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
    raise _refused(f"{shown} is not allowed in an expression", where)


def _refused(what: str, where: str) -> CompatError:
    return CompatError(
        what,
        where=where,
        meaning="It compares fields of an observation, with and, or, not, arithmetic, len and abs.",
        todo="Examples: stages.trainer.trainable == 0, training.eval_after > 0.9 * training.eval_before.",
    )


# ---------------------------------------------------------------------------------------------------- names and types


def _paths(root: ast.expr) -> Iterator[ast.expr]:
    """The outermost attribute and index chains, which begin with a name of the observation."""
    if isinstance(root, ast.Name | ast.Attribute | ast.Subscript):
        yield root
        return
    for child in ast.iter_child_nodes(root):
        if isinstance(child, ast.expr) and not (isinstance(root, ast.Call) and child is root.func):
            yield from _paths(child)


def _type_of(path: ast.expr, where: str) -> Any:
    """The declared type of a path. Any where types do not say."""
    match path:
        case ast.Name(id=name):
            return _field(Observation, name, where)
        case ast.Attribute(value=base, attr=name):
            return _field(_type_of(base, where), name, where)
        case ast.Subscript(value=base, slice=index) if (key := _key(index)) is not None:
            return _item(_type_of(base, where), key)
    raise _refused(f"{ast.unparse(path)} does not begin with a field of an observation", where)


def _field(owner: Any, name: str, where: str) -> Any:
    if owner is Any:
        return Any
    if owner is _STAGES:
        names: Sequence[str] = [_spelt(stage) for stage in CENSUS_STAGES]
        found: Any = Census if name in names else None
    elif dataclasses.is_dataclass(owner):
        hints = typing.get_type_hints(owner)
        names = [field.name for field in dataclasses.fields(owner)]
        found = hints.get(name) if name in names else None
        found = _STAGES if owner is Observation and name == _STAGES else found
    elif typing.get_origin(owner) is Mapping:
        return _item(owner, name)
    else:
        raise _refused(f"{name!r} is asked of a value that has no fields", where)
    if found is None:
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        raise CompatError(
            f"there is no {name!r} in {'stages' if owner is _STAGES else owner.__name__}",
            where=where,
            meaning=f"The closest name is {near[0]}." if near else "No name looks like it.",
            todo=f"Names: {', '.join(names)}.",
        )
    return _bare(found)


def _item(owner: Any, key: int | str) -> Any:
    if owner is _STAGES:
        return Census
    arguments = typing.get_args(owner)
    return _bare(arguments[0 if isinstance(key, int) else -1]) if arguments else Any


def _key(index: ast.expr) -> int | str | None:
    """A constant index, also a negative one; None for anything else."""
    match index:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | str() as key):
            return key
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as key)):
            return -key
    return None


def _bare(hint: Any) -> Any:
    """A type without None."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else Any
    return hint


# ------------------------------------------------------------------------------------------------------------- values


def _names(seen: Observation) -> dict[str, Any]:
    found = {field.name: getattr(seen, field.name) for field in dataclasses.fields(seen)}
    return {**found, _STAGES: {_spelt(stage): seen.census(stage) for stage in CENSUS_STAGES}}


def _spelt(stage: Stage) -> str:
    return stage.value.replace("-", "_")


def _value(node: ast.expr, names: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute() | ast.Subscript():
            return _part(node, names)
        case ast.BoolOp(op=kind, values=values):
            every = isinstance(kind, ast.And)
            results = (bool(_value(value, names)) for value in values)
            return all(results) if every else any(results)
        case ast.UnaryOp(op=kind, operand=operand):
            return _OPERATORS[type(kind)](_value(operand, names))
        case ast.BinOp(op=kind, left=left, right=right):
            return _OPERATORS[type(kind)](_value(left, names), _value(right, names))
        case ast.Compare(left=left, ops=kinds, comparators=others):
            values = [_value(value, names) for value in (left, *others)]
            pairs = zip(kinds, values, values[1:], strict=False)
            return all(_OPERATORS[type(kind)](one, other) for kind, one, other in pairs)
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return _FUNCTIONS[name](_value(argument, names))
    raise TypeError(f"{ast.unparse(node)} is not allowed")


def _part(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The part of the observation that a path names.

    Raises:
        Missing: what should hold it is None, or does not have it.
    """
    match node:
        case ast.Name(id=name):
            return names[name]
        case ast.Attribute(value=base, attr=key):
            return _get(_part(base, names), key, base)
        case ast.Subscript(value=base, slice=index):
            return _get(_part(base, names), _key(index), base)
    raise TypeError(f"{ast.unparse(node)} is no part of an observation")


def _get(owner: Any, key: Any, path: ast.expr) -> Any:
    if owner is None:
        raise Missing(f"{ast.unparse(path)} was not measured")
    if isinstance(owner, Mapping):
        if key not in owner:
            raise Missing(f"{ast.unparse(path)} has no {key!r}")
        return owner[key]
    if isinstance(owner, tuple | str) and isinstance(key, int):
        return owner[key]
    if dataclasses.is_dataclass(owner) and key in (field.name for field in dataclasses.fields(owner)):
        return getattr(owner, key)
    raise Missing(f"{ast.unparse(path)} has no {key!r}")


def _found(path: ast.expr, names: Mapping[str, Any]) -> str:
    try:
        value = _part(path, names)
    except (Missing, IndexError) as missing:
        return f"missing ({missing})"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
