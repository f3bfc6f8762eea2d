"""What a class of the project gives to its objects: methods, and fields with their defaults."""

from __future__ import annotations

import ast

from finetune_compat.audit.values import Class, Const, Function, Made, Value


def softened(value: Value) -> Value:
    """A constant as a default, which may be replaced."""
    return Const(value.value, default=True) if isinstance(value, Const) else value


def bound_to(function: Function, to: Value) -> Function:
    """A function of a class as a method of an object; a static method keeps its arguments."""
    static = any(
        isinstance(one, ast.Name) and one.id == "staticmethod" for one in getattr(function.node, "decorator_list", ())
    )
    return Function(function.node, function.source, function.scope, None if static else to, function.owner)


def is_dataclass(of: Class) -> bool:
    """Whether a decorator of the class makes its fields the arguments of its constructor."""
    return any("dataclass" in ast.unparse(one) for one in of.node.decorator_list)


def fields_of(of: Class) -> dict[str, Value]:
    """The defaults of a dataclass, those of its bases of the project first."""
    found: dict[str, Value] = {}
    for base in of.bases:
        if isinstance(base, Class):
            found |= fields_of(base)
    return found | {
        name: _default(value) for name, value in of.members.items() if not isinstance(value, Function | Class)
    }


def _default(value: Value) -> Value:
    """Of `field(default=...)` its default."""
    if isinstance(value, Made) and value.name.rpartition(".")[2] in ("field", "Field"):
        return value.given.get("default", Value())
    return value
