"""What belongs to a script, and what to a library."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from finetune_compat.cell.script.own import is_own


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
