"""Calls inside a trainer are observed by name, whichever module defines the function, and restored on exit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from finetune_compat.cell.instruments.library_calls import observed


def prepare(model: str, *, kbit: bool = True) -> str:
    """Stands in for a function of PEFT."""
    return f"prepared {model}" if kbit else model


def wrap(model: str) -> str:
    """Stands in for another function of PEFT."""
    return f"wrapped {model}"


Module = Callable[..., Any]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    """Make a module that imported these names."""

    def make(name: str, **names: Callable[..., Any]) -> Any:
        made = ModuleType(name)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return make


def test_a_hook_receives_what_the_library_received(module: Module) -> None:
    """This holds in TRL, Transformers and PEFT; arguments and result are unchanged."""
    trainer = module("trl.trainer.fake", prepare=prepare)
    utils = module("transformers.fake", prepare=prepare)
    seen: list[str] = []
    with observed({"prepare": seen.append}):
        assert trainer.prepare("a") == "prepared a"
        assert trainer.prepare("b", kbit=False) == "b"
        assert utils.prepare("c") == "prepared c"
    assert seen == ["prepared a", "b", "prepared c"]


def test_a_function_the_library_defines_itself_is_observed(module: Module) -> None:
    """TRL 0.25 and 0.26 define their own prepare_model_for_kbit_training; a nested call counts once."""
    theirs = module("peft.fake", prepare=prepare)

    def own(model: str) -> str:
        return f"own {theirs.prepare(model)}"

    trainer = module("trl.models.fake", prepare=own)
    seen: list[str] = []
    with observed({"prepare": seen.append}):
        trainer.prepare("a")
    assert seen == ["own prepared a"]


def test_each_function_has_its_own_hook(module: Module) -> None:
    """The hook of preparation is not called for wrapping."""
    trainer = module("trl.trainer.fake", prepare=prepare, wrap=wrap)
    prepared: list[str] = []
    wrapped: list[str] = []
    with observed({"prepare": prepared.append, "wrap": wrapped.append}):
        trainer.wrap(trainer.prepare("a"))
    assert (prepared, wrapped) == (["prepared a"], ["wrapped prepared a"])


@pytest.mark.parametrize("name", ["trlx.trainer", "my.trl", "finetune_compat.cell.flows.fake"])
def test_calls_outside_libraries_are_not_observed(module: Module, name: str) -> None:
    """Calls made by the flow itself are recorded by the flow."""
    other = module(name, prepare=prepare)
    seen: list[str] = []
    with observed({"prepare": seen.append}):
        assert other.prepare is prepare
        other.prepare("a")
    assert seen == []


def test_a_stand_in_looks_like_what_it_stands_for(module: Module) -> None:
    """Libraries read names and signatures of functions."""
    trainer = module("trl.trainer.fake", prepare=prepare)
    with observed({"prepare": lambda _: None}):
        assert trainer.prepare is not prepare
        assert (trainer.prepare.__name__, trainer.prepare.__wrapped__) == ("prepare", prepare)


def test_references_are_put_back(module: Module) -> None:
    """Every reference is the original one again."""
    modules = [module("trl.trainer.fake", prepare=prepare), module("transformers.fake", prepare=prepare)]
    with observed({"prepare": lambda _: None}):
        assert all(found.prepare is not prepare for found in modules)
    assert modules[0].prepare is modules[1].prepare is prepare


def test_references_are_put_back_when_the_trainer_raises(module: Module) -> None:
    """The exception propagates, and the next cell starts with the original functions."""
    trainer = module("trl.trainer.fake", prepare=prepare)
    with pytest.raises(ValueError, match="refused"), observed({"prepare": lambda _: None}):
        raise ValueError("refused")
    assert trainer.prepare is prepare


def test_a_call_that_raises_is_not_reported(module: Module) -> None:
    """There is no model to record."""

    def crash(model: str) -> str:
        raise RuntimeError(model)

    trainer = module("trl.trainer.fake", crash=crash)
    seen: list[str] = []
    with observed({"crash": seen.append}), pytest.raises(RuntimeError, match="a"):
        trainer.crash("a")
    assert seen == []


def test_an_entry_that_is_no_module_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.modules` may hold any value; None blocks an import."""
    monkeypatch.setitem(sys.modules, "trl.blocked", None)
    with observed({"prepare": lambda _: None}):
        pass
