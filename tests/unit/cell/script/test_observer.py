"""The observer is made while a script imports its first library."""

from __future__ import annotations

import ast

import pytest
from finetune_compat.machine.places import PACKAGE

STACK = {"accelerate", "datasets", "peft", "transformers", "trl"}


def imported(name: str) -> set[str]:
    """What a module of the package imports when it is imported, without what functions and type checkers import."""
    path = PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py")
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else ():
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("module", ["observer", "additions", "process"])
def test_it_imports_no_library_that_may_be_half_imported(module: str) -> None:
    """Transformers 5 imports PEFT, and PEFT imports Transformers: a script may begin with either of them."""
    todo, done = [f"{PACKAGE.name}.cell.script.{module}"], set[str]()
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        found = imported(name)
        assert not {one for one in found if one.partition(".")[0] in STACK}, f"{name} imports {sorted(found)}"
        todo += [one for one in found if one.startswith(PACKAGE.name)]
