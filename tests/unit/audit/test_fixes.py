"""A fix is a diff of one call, in the layout of the call. It is applied by `patch` in `test_command`."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest
from audit_builders import source
from finetune_compat.audit.findings import Finding, Fix, Status
from finetune_compat.audit.fixes import diff
from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import Place


def calls(of: Source) -> list[ast.Call]:
    """The calls of a script in the order of the text."""
    found = [node for node in ast.walk(of.tree) if isinstance(node, ast.Call)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def finding(of: Source, call: int = 0, **change: Any) -> Finding:
    """A finding that would change a call."""
    node = calls(of)[call]
    return Finding("loaded-frozen", Status.HIT, Place(of, node), "why", fix=Fix(node, **change))


def after(text: str, call: int = 0, **change: Any) -> str:
    """The script after its diff: context and added lines."""
    of = source(text)
    lines = diff(of, [finding(of, call, **change)]).splitlines(keepends=True)
    assert lines[:2] == ["--- a/train.py\n", "+++ b/train.py\n"]
    return "".join(line[1:] for line in lines[2:] if line[0] in " +")


@pytest.mark.parametrize(
    ("text", "change", "changed"),
    [
        ("f(a)\n", {"add": {"b": "True"}}, "f(a, b=True)\n"),
        ("f()\n", {"add": {"b": "True", "c": "1"}}, "f(b=True, c=1)\n"),
        ("f(a, b=1)\n", {"add": {"b": "2"}}, "f(a, b=2)\n"),
        ("f(a, b=1)\n", {"remove": ("b",)}, "f(a)\n"),
        ("f(b=1, c=2)\n", {"remove": ("b",)}, "f(c=2)\n"),
        ("f(b=1)\n", {"remove": ("b",)}, "f()\n"),
        ("f(a, old=1, c=2)\n", {"rename": {"old": "new"}}, "f(a, new=1, c=2)\n"),
        ("f(\n    a,\n    b=1,\n)\n", {"add": {"c": "2"}}, "f(\n    a,\n    b=1,\n    c=2,\n)\n"),
        ("f(\n    b=1,\n)\n", {"add": {"c": "2"}}, "f(\n    b=1,\n    c=2,\n)\n"),
        ("f(\n    a,\n    b=1\n)\n", {"add": {"c": "2"}}, "f(\n    a,\n    b=1,\n    c=2\n)\n"),
        ("f(a,\n  b=1)\n", {"add": {"c": "2"}}, "f(a,\n  b=1,\n  c=2)\n"),
        (
            "f(\n    a,  # one\n    b=1,  # two\n)\n",
            {"add": {"c": "2"}},
            "f(\n    a,  # one\n    b=1,  # two\n    c=2,\n)\n",
        ),
        ("f(a,)\n", {"add": {"c": "2"}}, "f(a, c=2,)\n"),
        ("f(\n    a,\n    b=1,\n)\n", {"remove": ("b",)}, "f(\n    a,\n)\n"),
        ("f(a)  # why\n", {"add": {"b": "1"}}, "f(a, b=1)  # why\n"),
        ("f(a, **c)\n", {"remove": ("b",), "rename": {"x": "y"}, "add": {"b": "1"}}, "f(a, **c, b=1)\n"),
        ("x = 'ä'; f(a)\n", {"add": {"b": "1"}}, "x = 'ä'; f(a, b=1)\n"),
    ],
)
def test_arguments_are_set_removed_and_renamed(text: str, change: dict[str, Any], changed: str) -> None:
    """Comments, line ends and the last comma stay."""
    assert after(text, **change) == changed
    assert ast.unparse(ast.parse(changed))


def test_only_the_call_is_changed() -> None:
    """Not another one of the same function."""
    assert after("f(a)\nf(a)\n", 1, add={"b": "1"}) == "f(a)\nf(a, b=1)\n"
    assert after("f(g(a))\n", 1, add={"b": "1"}) == "f(g(a, b=1))\n"


def test_several_fixes_are_one_diff() -> None:
    """Each at its call."""
    of = source("f(a)\ng(b)\n")
    text = diff(of, [finding(of, 0, add={"x": "1"}), finding(of, 1, remove=("y",), add={"x": "2"})])
    assert [line for line in text.splitlines() if line.startswith("+")][1:] == ["+f(a, x=1)", "+g(b, x=2)"]


def test_a_file_without_a_last_line_end_has_the_note_of_patch() -> None:
    """It would join lines otherwise."""
    of = source("f(a)")
    assert diff(of, [finding(of, add={"b": "1"})]).count("\\ No newline at end of file\n") == 2


def test_what_cannot_be_changed_has_no_diff() -> None:
    """A finding without a fix, a place in another file, and a notebook."""
    of, other = source("f(a)\n"), source("f(a)\n", "other.py")
    assert diff(of, []) == ""
    assert diff(of, [replace(finding(of), fix=None)]) == ""
    assert diff(of, [finding(of)]) == ""
    assert diff(other, [finding(of, add={"b": "1"})]) == ""
    notebook = replace(of, cells=((1, 1),))
    assert diff(notebook, [finding(notebook, add={"b": "1"})]) == ""
