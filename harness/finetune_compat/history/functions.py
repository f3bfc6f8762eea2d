"""Functions in Python source text: find them, compare them between two releases, put one into the other release. Pure.

A function is named by its place in the file, for example `SFTTrainer._prepare_peft_model`.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTEXT = 1
"""Unchanged lines around each change in a diff."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Function:
    """A function or method, with its decorators. Lines count from 1; the last one is included."""

    name: str
    first: int
    last: int
    lines: tuple[str, ...]


def functions(source: str) -> dict[str, Function]:
    """All functions of a file by name, in order. Empty if it is no Python. Of several with one name the last counts."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    lines = source.split("\n")
    return {function.name: function for function in _in(tree, "", lines)}


def _in(node: ast.AST, prefix: str, lines: Sequence[str]) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Definition | ast.ClassDef):
            name = f"{prefix}{child.name}"
            if isinstance(child, _Definition):
                first = min((decorator.lineno for decorator in child.decorator_list), default=child.lineno)
                last = child.end_lineno or child.lineno
                yield Function(name, first, last, tuple(lines[first - 1 : last]))
            yield from _in(child, f"{name}.", lines)
        else:
            yield from _in(child, prefix, lines)


def around(source: str, line: int) -> Function | None:
    """The innermost function around a line; None if there is none."""
    inside = [found for found in functions(source).values() if found.first <= line <= found.last]
    return max(inside, key=lambda found: found.first, default=None)


def difference(before: Function | None, after: Function) -> tuple[str, ...]:
    """The changes from `before` to `after` as lines of a unified diff, without its header; empty if they are equal."""
    old = before.lines if before else ()
    if [line.rstrip() for line in old] == [line.rstrip() for line in after.lines]:
        return ()
    diff = difflib.unified_diff(old, after.lines, lineterm="", n=CONTEXT)
    shown = [line for line in diff if not line.startswith(("---", "+++"))]
    return tuple("..." if line.startswith("@@") else line for line in shown)[1:]


def replaced(source: str, name: str, donor: str) -> str | None:
    """`source` with the function `name` as it is in `donor`; None if one of them lacks it, or if nothing changes.

    Imports of the donor's file that the function needs and `source` lacks are put inside it.
    """
    old, new = functions(source).get(name), functions(donor).get(name)
    if old is None or new is None or not difference(old, new):
        return None
    lines = source.split("\n")
    body = _with_imports(new, source, donor)
    text = "\n".join([*lines[: old.first - 1], *body, *lines[old.last :]])
    return text if functions(text) else None


def hunks(before: Function, after: Function) -> tuple[tuple[int, int, int, int], ...]:
    """The changed places of two versions of a function, each as first and end line in `before` and in `after`."""
    matcher = difflib.SequenceMatcher(None, before.lines, after.lines, autojunk=False)
    return tuple((a, b, c, d) for kind, a, b, c, d in matcher.get_opcodes() if kind != "equal")


def _with_imports(new: Function, source: str, donor: str) -> list[str]:
    """The lines of a function, with imports of names that only the donor's file has."""
    missing = _names_in(new) & (_module_names(donor) - _module_names(source))
    imports = [statement for name in sorted(missing) for statement in _import_of(name, donor)]
    if not imports:
        return list(new.lines)
    text = "\n".join(new.lines)
    tree = ast.parse(_dedented(text)).body[0]
    assert isinstance(tree, _Definition)  # noqa: S101 - it was found as one
    at = tree.body[0].lineno - 1
    indent = new.lines[at][: len(new.lines[at]) - len(new.lines[at].lstrip())]
    return [*new.lines[:at], *(f"{indent}{line}" for line in imports), *new.lines[at:]]


def _dedented(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return "\n".join(line[indent:] if not line[:indent].strip() else line for line in text.split("\n"))


def _names_in(function: Function) -> set[str]:
    tree = ast.parse(_dedented("\n".join(function.lines)))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _module_names(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, _Definition | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _import_of(name: str, donor: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(donor)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name).partition(".")[0] == name:
                    one = ast.Import([alias]) if isinstance(node, ast.Import) else None
                    other = (
                        ast.ImportFrom(node.module, [alias], node.level) if isinstance(node, ast.ImportFrom) else None
                    )
                    yield ast.unparse(one or other or node)
                    return
