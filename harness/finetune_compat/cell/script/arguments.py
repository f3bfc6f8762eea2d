"""Find every unknown argument of a call that ended a script. Python's error names only the first."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any

from finetune_compat.contract.records import REPORTED
from finetune_compat.contract.script import UnknownArgument

_MESSAGE = re.compile(r"(?P<owner>\w+)\.__init__\(\) got an unexpected keyword argument '(?P<name>\w+)'")


def unknown_arguments(error: BaseException) -> tuple[UnknownArgument, ...]:
    """The unknown arguments of the call that raised `error`; empty if it is another error, or the class is not a
    library's.
    """
    found = _MESSAGE.search(str(error)) if isinstance(error, TypeError) else None
    frame = _script_frame(error)
    if found is None or frame is None:
        return ()
    variables = {**frame[0].f_globals, **frame[0].f_locals}
    owner = _class_named(found["owner"], variables)
    if owner is None:
        return ()
    accepts = _parameters(owner)
    given = dict.fromkeys((found["name"], *_given(frame[0], frame[1], owner, variables)))
    callee = f"{owner.__module__.partition('.')[0]}:{owner.__name__}"
    return tuple(UnknownArgument(callee, name, accepts) for name in given if name not in accepts)


def _script_frame(error: BaseException) -> tuple[FrameType, int] | None:
    """The innermost frame of the script and its line: the last that belongs to no installed package."""
    found, traceback = None, error.__traceback__
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if "site-packages/" not in file and "/finetune_compat/" not in file:
            found = (traceback.tb_frame, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def _class_named(name: str, variables: Mapping[str, Any]) -> type[Any] | None:
    values = list(variables.values())
    values += [getattr(value, name, None) for value in values if isinstance(value, ModuleType)]
    values += [vars(sys.modules[package]).get(name) for package in REPORTED if package in sys.modules]
    classes = (value for value in values if isinstance(value, type) and value.__name__ == name)
    return next((cls for cls in classes if cls.__module__.partition(".")[0] in REPORTED), None)


def _parameters(owner: type[Any]) -> tuple[str, ...]:
    return tuple(name for name in inspect.signature(owner.__init__).parameters if name != "self")


def _given(frame: FrameType, line: int, owner: type[Any], variables: Mapping[str, Any]) -> Iterator[str]:
    """Names of the keyword arguments in the call of `owner` at `line`, as far as the source shows them."""
    try:
        tree = ast.parse("".join(linecache.getlines(frame.f_code.co_filename)))
    except SyntaxError:
        return
    names = {name for name, value in variables.items() if value is owner} | {owner.__name__}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node.func) in names and node.lineno <= line <= (node.end_lineno or 0):
            for keyword in node.keywords:
                yield from [keyword.arg] if keyword.arg else _keys(keyword.value, variables)


def _called(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _keys(node: ast.expr, variables: Mapping[str, Any]) -> Iterator[str]:
    """Keys of the mapping that a call unpacks, if it is a variable or a display."""
    if isinstance(node, ast.Dict):
        yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))
    elif isinstance(node, ast.Name) and isinstance(variables.get(node.id), Mapping):
        yield from map(str, variables[node.id])
