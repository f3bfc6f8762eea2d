"""Defaults of configuration classes that differ between two stacks."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.cell import config_defaults
from finetune_compat.contract.errors import EnvironmentMismatch
from finetune_compat.gate import defaults
from finetune_compat.gate.decision import DefaultChange
from finetune_compat.gate.defaults import Defaults, changes, compared
from finetune_compat.stacks.ask import StackPython
from finetune_compat.stacks.environments import Environment
from finetune_compat.stacks.locks import Lock


class TestDefaults:
    def test_added_removed_and_changed(self) -> None:
        """They are in the order of the fields; unchanged fields are not listed."""
        before = {"SFTConfig": {"packing": "False", "gone": "1", "same": "0"}}
        after = {"SFTConfig": {"packing": "True", "same": "0", "new": "None"}}
        assert changes(before, after) == (
            DefaultChange("SFTConfig", "packing", "False", "True"),
            DefaultChange("SFTConfig", "gone", "1", None),
            DefaultChange("SFTConfig", "new", None, "None"),
        )

    def test_an_inherited_change_is_reported_once(self) -> None:
        """It is reported at the base class; a trainer's configuration reports only its own changes."""
        before = {"SFTConfig": {"lr": "1", "bf16": "0"}, "TrainingArguments": {"lr": "1", "bf16": "0"}}
        after = {"SFTConfig": {"lr": "2", "bf16": "1"}, "TrainingArguments": {"lr": "2", "bf16": "0"}}
        assert changes(before, after) == (
            DefaultChange("SFTConfig", "bf16", "0", "1"),
            DefaultChange("TrainingArguments", "lr", "1", "2"),
        )

    def test_a_class_of_one_side_is_one_change(self) -> None:
        """Its fields are not listed one by one."""
        assert changes({}, {"KTOConfig": {"beta": "0.1"}}) == (
            DefaultChange("KTOConfig", "", None, "the class is there"),
        )

    def test_a_stack_lists_fields_with_their_defaults(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Values have no addresses; a missing class is left out, and no class is instantiated."""

        def broken() -> None:
            raise ValueError

        @dataclasses.dataclass
        class Config:
            must: int
            plain: float = 0.1
            made: list[str] = dataclasses.field(default_factory=lambda: ["q_proj"])
            odd: object = dataclasses.field(default_factory=broken)
            place: object = object  # only an instance of the class has an address

        module = types.ModuleType("a_stack")
        module.Config = Config  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "a_stack", module)
        asked = {"classes": ["a_stack:Config", "a_stack:Missing", "no_such_module:Config"]}
        assert config_defaults.answer_to(asked) == {
            "Config": {
                "must": "required",
                "plain": "0.1",
                "made": "['q_proj']",
                "odd": "made by broken (ValueError)",
                "place": "<class 'object'>",
            }
        }


class TestRead:
    def test_an_environment_is_verified_before_it_is_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_places: Callable[..., None]
    ) -> None:
        """Where all results were cached, nothing else did. What cannot be compared is said."""
        in_places(environments=tmp_path)
        lock = Lock(Path("trl0.22-py311.lock"), "5f" * 32, {}, {})
        side = StackPython("trl0.22-py311", Path("python"), lock, Environment("2.13.0", False, True))

        def refuses(_: Lock) -> None:
            raise EnvironmentMismatch("trl/__init__.py was edited", where="trl0.22-py311")

        monkeypatch.setattr(defaults, "environment_of", refuses)
        monkeypatch.setattr(defaults, "ask", lambda *_: pytest.fail("it was imported"))
        assert compared(side, side) == Defaults((), "trl0.22-py311: trl/__init__.py was edited")
