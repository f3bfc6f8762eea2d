"""The arguments of constructors, which TRL's wrappers of moved trainers only pass on."""

from __future__ import annotations

from typing import Any

from finetune_compat.cell.constructors import options


class Trainer:
    """A trainer that names its arguments."""

    def __init__(self, model: object = None, *, args: object = None, data_collator: object = None) -> None: ...


class Moved(Trainer):
    """A trainer in its new module."""

    def __init__(self, model: object = None, args: object = None, train_dataset: object = None) -> None:
        super().__init__(model, args=args)


class Wrapper(Moved):
    """The old name of a trainer, which passes everything on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


class Extended(Moved):
    """A trainer with one more argument."""

    def __init__(self, extra: object = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class Renamed(Wrapper):
    """A trainer without a constructor of its own."""


def test_a_constructor_takes_the_arguments_that_it_names() -> None:
    """Not those of its base class, which it gives what it likes."""
    assert options(Trainer) == {"model", "args", "data_collator"}
    assert options(Moved) == {"model", "args", "train_dataset"}


def test_arguments_that_are_passed_on_are_those_of_the_next_class() -> None:
    """Through any number of classes, together with those that are named."""
    assert options(Wrapper) == options(Renamed) == options(Moved)
    assert options(Extended) == {"extra", *options(Moved)}


def test_a_class_without_any_constructor_takes_nothing() -> None:
    """`object` names none."""
    assert options(type("Empty", (), {})) == set()
