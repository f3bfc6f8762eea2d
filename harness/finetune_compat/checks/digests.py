"""A digest of each check of cells: which checks changed since a baseline was kept.

The digest covers the row of the check and every definition of this room that its function reaches, by name, in the
abstract syntax tree. Comments, docstrings and the layout of the code do not change it.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from finetune_compat.checks.cell_checks import ENGINE

_ROOM = "finetune_compat.checks"


@dataclass(frozen=True, slots=True)
class _Module:
    """The definitions of one module of this room."""

    defined: dict[str, str] = field(default_factory=dict)
    """Text of each definition by name. A method has its own name; of a class only the rest is under its name."""
    used: dict[str, frozenset[str]] = field(default_factory=dict)
    """Names that occur in each definition, and attributes, which begin with a dot."""
    imported: dict[str, str] = field(default_factory=dict)
    """Module of this room that each imported name comes from, or is."""


@cache
def check_digests() -> Mapping[str, str]:
    """sha256 by code, of each check of cells."""
    return {check.code: _digest(dataclasses.astuple(check), ENGINE.function(check.code)) for check in ENGINE.codes}


def _digest(row: tuple[object, ...], function: object) -> str:
    module, name = function.__module__, function.__qualname__.partition(".")[0]  # type: ignore[attr-defined]
    texts = sorted({_modules()[where].defined[what] for where, what in _reached(module, name)})
    return hashlib.sha256("\n".join([str(row), *texts]).encode()).hexdigest()


def _reached(module: str, name: str) -> Iterator[tuple[str, str]]:
    """The definitions that the one called `name` in `module` reaches, with itself: module and name."""
    todo, done = [(module, name)], set()
    while todo:
        place = todo.pop()
        if place in done:
            continue
        done.add(place)
        yield place
        where, what = place
        todo += [found for used in _modules()[where].used[what] for found in _places(where, used)]


def _places(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Where `name`, used in `module`, may be defined: here, in a module that is imported here, or as a method."""
    here, plain = _modules()[module], name.removeprefix(".")
    if plain == name and here.imported.get(name) in _modules() and here.imported[name].endswith(f".{name}"):
        return  # a module: what is used of it is an attribute
    for where in {module, *here.imported.values()}:
        if plain in _modules()[where].defined:
            yield where, plain


@cache
def _modules() -> Mapping[str, _Module]:
    """The modules of this room, by name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    names = {path: _ROOM if path.stem == "__init__" else f"{_ROOM}.{path.stem}" for path in files}
    return {name: _read(path, frozenset(names.values())) for path, name in names.items()}


def _read(path: Path, room: frozenset[str]) -> _Module:
    found = _Module()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ImportFrom(module=str(source), names=names):
                for alias in names:
                    of = f"{source}.{alias.name}"
                    if of in room or source in room:
                        found.imported[alias.asname or alias.name] = of if of in room else source
            case ast.ClassDef(name=name, body=body):
                methods = [item for item in body if isinstance(item, ast.FunctionDef)]
                for method in methods:
                    _define(found, method.name, method)
                node.body = [item for item in body if item not in methods]
                _define(found, name, node)
            case ast.FunctionDef(name=name):
                _define(found, name, node)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                _define(found, name, node)
            case _:
                pass
    return found


def _define(module: _Module, name: str, node: ast.stmt) -> None:
    _drop_docstrings(node)
    inside = list(ast.walk(node))
    names = {item.id for item in inside if isinstance(item, ast.Name)}
    names |= {f".{item.attr}" for item in inside if isinstance(item, ast.Attribute)}
    # Two classes may have a method of the same name: then each use of the name reaches both.
    module.defined[name] = module.defined.get(name, "") + ast.dump(node)
    module.used[name] = module.used.get(name, frozenset()) | names


def _drop_docstrings(node: ast.stmt) -> None:
    for item in ast.walk(node):
        if isinstance(item, ast.FunctionDef | ast.ClassDef):
            item.body = [one for one in item.body if not _is_text(one)]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
