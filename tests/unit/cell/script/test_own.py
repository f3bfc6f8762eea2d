"""What belongs to a script, and what to a library."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from finetune_compat.cell.script.own import is_own, names_of


@pytest.mark.parametrize(
    ("name", "file", "own"),
    [
        ("helpers", "/home/me/project/helpers.py", True),
        ("trl.trainer", "/env/lib/python3.11/site-packages/trl/trainer/__init__.py", False),
        ("transformers_modules.some.model", "/home/me/.cache/modules/model.py", False),
        ("notebook", None, True),
    ],
)
def test_a_module_is_the_script_s_unless_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, name: str, file: str | None, own: bool
) -> None:
    module = ModuleType(name)
    module.__file__ = file
    monkeypatch.setitem(sys.modules, name, module)
    assert is_own(name) is own


def test_the_main_module_is_the_script() -> None:
    assert is_own("__main__")


ROWS = object()


def test_names_are_those_of_the_functions_that_run_and_of_their_modules() -> None:
    def inner(given: object) -> tuple[str, ...]:
        return names_of(given)

    held_out = ROWS
    assert {"given", "held_out", "ROWS"} <= {*inner(held_out)}
    found = names_of(object())
    assert found == ()


def test_names_in_a_library_are_not_the_script_s() -> None:
    scope: dict[str, object] = {"names_of": names_of}
    code = "def build(held_out):\n    return names_of(held_out)\n"
    exec(compile(code, "/env/lib/python3.11/site-packages/trl/trainer.py", "exec"), scope)  # noqa: S102
    value = object()
    assert scope["build"](value) == ("value",)  # type: ignore[operator]
