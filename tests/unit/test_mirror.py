"""Every module with behaviour has tests under its own name: `run/request.py` in `run/test_request.py`.

Modules that run inside a stack need torch. Their tests are in the folders of `tests/` that run there: CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_compat.machine.places import PACKAGE

HERE = Path(__file__).parent

STACK = {"accelerate", "bitsandbytes", "datasets", "peft", "tokenizers", "torch", "transformers", "trl"}
"""Packages of a stack. The host has none of them."""

TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.Module) -> set[str]:
    """The names of all modules, and of what is taken out of them, that a module imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name_of(path: Path) -> str:
    """The full name of a module of the package."""
    return ".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts))


def inside_a_stack() -> set[Path]:
    """The modules that import a package of a stack, themselves or through another module of this package."""
    imports = {path: imported(tree) for path, tree in TREES.items()}
    found: set[Path] = set()
    names = set(STACK)
    while more := {path for path, mine in imports.items() if path not in found and _meets(mine, names)}:
        found |= more
        names |= {name_of(path) for path in more}
    return found


def _meets(imports: set[str], names: set[str]) -> bool:
    return bool(imports & names) or any(name.partition(".")[0] in STACK for name in imports)


def behaves(tree: ast.Module) -> bool:
    """Whether a module has a function. Others hold data and types."""
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree))


def modules() -> Iterator[Path]:
    """The modules that need tests here. The `__init__` of a package has its own name for them, or none."""
    stack = inside_a_stack()
    for path, tree in TREES.items():
        if path.name != "__init__.py" and path not in stack and behaves(tree):
            yield path


def mirror_of(path: Path) -> Path:
    """The file of a module's tests."""
    return HERE / path.relative_to(PACKAGE).parent / f"test_{path.stem.strip('_')}.py"


def room_of(path: Path) -> str:
    """The room of a module; empty for modules beside the rooms."""
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""


@pytest.mark.parametrize("path", [*modules()], ids=name_of)
def test_a_module_with_behaviour_has_tests_under_its_name(path: Path) -> None:
    """Who changes a module finds its tests without a search."""
    assert mirror_of(path).is_file(), f"there is no {mirror_of(path).relative_to(HERE.parents[1])}"


def test_only_the_cell_side_runs_inside_a_stack() -> None:
    """No other room is excused by what it imports."""
    assert {room_of(path) for path in inside_a_stack() if path.name != "__init__.py"} == {"cell"}
    assert PACKAGE / "cell" / "recorder.py" in inside_a_stack()
    assert PACKAGE / "cell" / "runner.py" in inside_a_stack()
    assert PACKAGE / "cell" / "gpus.py" not in inside_a_stack()
