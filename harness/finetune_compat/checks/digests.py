"""A digest of each check of cells: which checks changed since a baseline was kept.

The digest covers the row of the check and every definition of this room that its function reaches, by name, in the
abstract syntax tree. Comments, docstrings and the layout of the code do not change it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from finetune_compat.checks.cell_checks import ENGINE
from finetune_compat.checks.codes import CODES

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
    rows: dict[str, str] = field(default_factory=dict)
    """Text of each pair that begins with a text, by that text: the rows of a table of checks."""


@cache
def check_digests(room: Path = Path(__file__).parent) -> Mapping[str, str]:
    """sha256 by code, of each check of cells. `room` has the files of this room."""
    files = sorted(room.glob("*.py"))
    names = {path: _ROOM if path.stem == "__init__" else f"{_ROOM}.{path.stem}" for path in files}
    modules = {name: _read(path, frozenset(names.values())) for path, name in names.items()}
    return {check.code: _digest(check.code, modules) for check in ENGINE.codes}


def _digest(code: str, modules: Mapping[str, _Module]) -> str:
    function = ENGINE.function(code)
    first = (function.__module__, function.__qualname__.partition(".")[0])
    texts = sorted({modules[where].defined[what] for where, what in _reached(first, modules)})
    return hashlib.sha256("\n".join([_row(code, modules), *texts]).encode()).hexdigest()


def _row(code: str, modules: Mapping[str, _Module]) -> str:
    """The row of the check with its function, which may have arguments, and when it applies. Wording is left out."""
    return f"{modules[f'{_ROOM}.cell_checks'].rows[code]} {CODES[code].requires} {CODES[code].tier}"


def _reached(first: tuple[str, str], modules: Mapping[str, _Module]) -> Iterator[tuple[str, str]]:
    """The definitions that `first` reaches, with itself: module and name."""
    todo, done = [first], set()
    while todo:
        place = todo.pop()
        if place in done:
            continue
        done.add(place)
        yield place
        where, what = place
        todo += [found for used in modules[where].used[what] for found in _places(where, used, modules)]


def _places(module: str, name: str, modules: Mapping[str, _Module]) -> Iterator[tuple[str, str]]:
    """Where `name`, used in `module`, is defined: here, or where it is imported from. An attribute may be a method, or
    a definition of a module that is imported here.
    """
    here, attribute = modules[module], name.removeprefix(".")
    if name in here.defined:
        yield module, name
    elif name in here.imported and not here.imported[name].endswith(f".{name}"):
        yield from _places(here.imported[name], name, modules)
    elif name != attribute:
        for where in {module, *here.imported.values()}:
            if attribute in modules[where].defined:
                yield where, attribute


def _read(path: Path, room: frozenset[str]) -> _Module:
    found, tree = _Module(), ast.parse(path.read_text(encoding="utf-8"))
    pairs = [node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) > 1]
    found.rows.update({node.elts[0].value: ast.dump(node) for node in pairs if _is_text(node.elts[0])})  # type: ignore[attr-defined]
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            found.imported.update(_imported(node, room))
        for name, definition in _definitions(node):
            _define(found, name, definition)
    return found


def _imported(node: ast.ImportFrom, room: frozenset[str]) -> dict[str, str]:
    """The module of this room that each name is, or comes from."""
    found = {}
    for alias in node.names:
        own = f"{node.module}.{alias.name}"
        if own in room or node.module in room:
            found[alias.asname or alias.name] = own if own in room else str(node.module)
    return found


def _definitions(node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    """The names that a statement defines. A class defines its methods, and without them itself."""
    match node:
        case ast.ClassDef(name=name, body=body):
            methods = [item for item in body if isinstance(item, ast.FunctionDef)]
            yield from ((method.name, method) for method in methods)
            node.body = [item for item in body if item not in methods]
            yield name, node
        case ast.FunctionDef(name=name):
            yield name, node
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            yield name, node
        case _:
            pass


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
            item.body = [one for one in item.body if not (isinstance(one, ast.Expr) and _is_text(one.value))]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
