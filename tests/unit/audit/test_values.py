"""What is known of a value, and where names are bound."""

from __future__ import annotations

import ast

import pytest
from audit_builders import source
from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import (
    Class,
    Const,
    External,
    Items,
    Made,
    Model,
    Place,
    Scope,
    Training,
    Value,
    const,
    is_none,
    texts,
)

SOURCE = source("x = 1\ny = 2\n")
AT = Place(SOURCE, SOURCE.tree.body[1])


def test_a_place_is_the_line_of_its_node() -> None:
    """A module as a whole begins at its first line."""
    assert (AT.line, str(AT)) == (2, "train.py:2")
    assert Place(SOURCE, SOURCE.tree).line == 1


def test_a_place_in_a_notebook_is_in_its_cell() -> None:
    """Lines are counted from the first of the cell."""
    notebook = Source(SOURCE.path, "a.ipynb", SOURCE.text, ((1, 1), (2, 3)))
    assert str(Place(notebook, notebook.tree.body[1])) == "a.ipynb, cell 3, line 1"


class TestScopes:
    def test_a_name_is_found_in_the_scopes_around(self) -> None:
        """The innermost counts."""
        one, two = Const(1), Const(2)
        outer = Scope({"a": one, "b": one}, None, SOURCE)
        inner = Scope({"a": two}, outer, SOURCE)
        assert [inner.find(name) for name in "abc"] == [two, one, None]

    def test_a_name_is_bound_where_it_belongs(self) -> None:
        """`nonlocal` means the nearest scope with the name; without one it is the module."""
        module = Scope({}, None, SOURCE)
        outer = Scope({"a": Const(1)}, module, SOURCE)
        inner = Scope({}, outer, SOURCE)
        inner.outer |= {"a", "new"}
        for name in ("a", "new", "own"):
            inner.bind(name, Const(2))
        assert (set(module.names), const(outer.names["a"]), set(inner.names)) == ({"new"}, 2, {"own"})


def of_class(name: str, *bases: Value, **members: Value) -> Class:
    """A class of the project."""
    (node,) = ast.parse(f"class {name}: ...").body
    assert isinstance(node, ast.ClassDef)
    return Class(node, SOURCE, Scope({}, None, SOURCE), bases, members)


class TestClasses:
    def test_a_member_is_that_of_the_first_base_that_has_it(self) -> None:
        """The class itself comes first."""
        one = of_class("One", a=Const(1), b=Const(1))
        other = of_class("Other", b=Const(2), c=Const(2))
        both = of_class("Both", one, other, a=Const(3))
        assert [const(both.find(name)) for name in "abc"] == [3, 1, 2]
        assert both.find("d") is None

    def test_the_class_of_a_library_behind_it(self) -> None:
        """Through classes of the project."""
        trainer = External("trl.SFTTrainer")
        assert of_class("Mine", of_class("Base", trainer)).library_base == "trl.SFTTrainer"
        assert of_class("Mine", Value(), of_class("Plain")).library_base == ""


class TestKnown:
    def test_a_constant(self) -> None:
        """Of other values nothing is known."""
        assert [const(Const("a")), const(Value()), const(None), const(Items([]))] == ["a", None, None, None]

    def test_nothing_or_none_was_given(self) -> None:
        """An unknown value may be something."""
        assert [is_none(None), is_none(Const(None)), is_none(Value()), is_none(Const(0))] == [True, True, False, False]

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (Const("all-linear"), {"all-linear"}),
            (Const(3), set()),
            (Items([Const("q_proj"), Const("v_proj")]), {"q_proj", "v_proj"}),
            (Items([Const("q_proj")], open=True), None),
            (Items([Const("q_proj"), Value()]), None),
            (Value(), None),
            (None, None),
        ],
    )
    def test_the_strings_of_a_list(self, value: Value | None, found: set[str] | None) -> None:
        """As the target modules of an adapter, which may be one string."""
        assert texts(value) == found

    def test_what_was_given(self) -> None:
        """By name."""
        made = Made("peft.LoraConfig", {"r": Const(8)}, AT)
        assert (const(made.get("r")), made.get("bias")) == (8, None)

    def test_the_history_of_a_model(self) -> None:
        """In the order of its events."""
        model = Model(AT, "transformers.AutoModel")
        events = [model.note("prepared", AT), model.note("wrapped", AT)]
        assert model.history == events
        assert [event.what for event in events] == ["prepared", "wrapped"]
        assert Training("trl.SFTTrainer", {"model": model}, AT).model is model
        assert Training("trl.SFTTrainer", {}, AT).model is None
