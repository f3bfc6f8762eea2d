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


def changes(before: Function, after: Function) -> tuple[tuple[str, ...], ...]:
    """The single changes from `before` to `after`, in order, each as its removed and added lines with - and +."""
    return tuple(
        (*(f"-{line}" for line in before.lines[a:b]), *(f"+{line}" for line in after.lines[c:d]))
        for _, a, b, c, d in _opcodes(before.lines, after.lines)
    )


def exchanged(one: str, other: str, name: str, hunk: int | None = None) -> tuple[str, str] | None:
    """Both sources, each with the function `name` of the other; with `hunk`, from 1, only with that change of it.

    Imports of the donor's file that the function needs and the other file lacks are put inside it. None if one of the
    sources lacks the function, if nothing changes, or if the result is no Python.
    """
    old, new = functions(one).get(name), functions(other).get(name)
    if old is None or new is None or not difference(old, new):
        return None
    lines = (new.lines, old.lines) if hunk is None else _with_hunk(old.lines, new.lines, hunk)
    if lines is None:
        return None
    first = _put(one, old, _with_imports(lines[0], one, other))
    second = _put(other, new, _with_imports(lines[1], other, one))
    return (first, second) if functions(first) and functions(second) else None


_Lines = tuple[str, ...]


def _with_hunk(old: _Lines, new: _Lines, hunk: int) -> tuple[_Lines, _Lines] | None:
    """Both versions of a function with one change exchanged; None if there are fewer changes."""
    found = _opcodes(old, new)
    if not 1 <= hunk <= len(found):
        return None
    _, a, b, c, d = found[hunk - 1]
    return (*old[:a], *new[c:d], *old[b:]), (*new[:c], *old[a:b], *new[d:])


def _opcodes(old: _Lines, new: _Lines) -> list[tuple[str, int, int, int, int]]:
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [change for change in matcher.get_opcodes() if change[0] != "equal"]


def _put(source: str, function: Function, body: Sequence[str]) -> str:
    lines = source.split("\n")
    return "\n".join([*lines[: function.first - 1], *body, *lines[function.last :]])


def _with_imports(lines: _Lines, source: str, donor: str) -> list[str]:
    """The lines of a function, with imports of names that only the donor's file has."""
    try:
        tree = ast.parse(_dedented("\n".join(lines))).body[0]
    except SyntaxError:  # a change that does not stand alone
        return list(lines)
    if not isinstance(tree, _Definition):
        return list(lines)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    missing = names & (_module_names(donor) - _module_names(source))
    imports = [statement for name in sorted(missing) for statement in _import_of(name, donor)]
    at = tree.body[0].lineno - 1
    indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
    return [*lines[:at], *(f"{indent}{line}" for line in imports), *lines[at:]]


def _dedented(text: str) -> str:
    indent = len(text) - len(text.lstrip(" "))
    return "\n".join(line[indent:] if not line[:indent].strip() else line for line in text.split("\n"))


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
