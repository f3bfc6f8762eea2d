"""Expressions are what Python would make of them, and unknown conditions are decided outside."""

from __future__ import annotations

import pytest
from audit_builders import Decided, computed, followed, path_of, plain, source, value_of
from finetune_compat.audit.expressions import MOST_STEPS, Exhausted
from finetune_compat.audit.values import Items, Table, Value

PROGRAMS = [
    "y = 3\nx = f'{y} of {y + 1}'",
    "x = [1, *[2, 3], 4]",
    "x = {'a': 1, **{'b': 2}}",
    "x = {'a': {'b': [1, 2]}}['a']['b'][-1]",
    "a, b = 1, 2\nx = [b, a]",
    "(a, b), c = (1, 2), 3\nx = [a, b, c]",
    "x = [one * 2 for one in [1, 2, 3]]",
    "x = 1 if [] else 2",
    "x = not ''",
    "x = None or 'a'",
    "x = 0 and 1",
    "x = (y := 4) + y",
]
"""Programs whose every value is known."""


@pytest.mark.parametrize("program", PROGRAMS)
def test_known_values_are_those_of_python(program: str) -> None:
    """Python itself says what is right."""
    assert followed(program) == computed(program)


@pytest.mark.parametrize(
    "program",
    [
        "import elsewhere\nx = elsewhere.y['a']",
        "x = {'a': 1}['b']",
        "x = [1][5]",
        "a, b = [1, 2, 3]\nx = a",
        f"x = 0x{'f' * 5000}",
        f"y = 0x{'f' * 5000}\nx = f'{{y}}'",
        "x = 'a'\n" + "x = f'{x}{x}'\n" * 20,
    ],
)
def test_what_is_not_known_is_no_value(program: str) -> None:
    """A long number or text is none either."""
    assert plain(value_of(program)) is Value


def test_an_unknown_item_leaves_the_rest_known() -> None:
    """And a table says that there may be more."""
    found = value_of("import elsewhere\nx = {'a': 1, **elsewhere.options()}")
    assert isinstance(found, Table)
    assert (plain(found.items["a"]), found.open) == (1, True)
    listed_ = value_of("import elsewhere\nx = [1, *elsewhere.more()]")
    assert isinstance(listed_, Items)
    assert (plain(listed_.items[0]), listed_.open) == (1, True)


class TestConditions:
    PROGRAM = "import sys\nx = 1 if sys.argv else 2\n"

    @pytest.mark.parametrize(("way", "x"), [(True, 1), (False, 2)])
    def test_an_unknown_one_is_decided_outside(self, way: bool, x: int) -> None:
        """With its text and its file."""
        decisions = Decided(way)
        assert plain(value_of(self.PROGRAM, path=path_of(decisions))) == x
        assert decisions.asked == [("train.py: sys.argv", True, False)]

    def test_a_default_is_tried_first(self) -> None:
        """The command line may say otherwise."""
        decisions = Decided()
        program = (
            "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lora', action='store_true')\n"
            "args = p.parse_args()\nif args.lora:\n    x = 1\n"
        )
        value_of(program, path=path_of(decisions))
        assert decisions.asked == [("train.py: args.lora", False, True)]

    def test_each_part_of_a_condition_is_one(self) -> None:
        """`not` is none."""
        decisions = Decided()
        value_of("import a\nif a.b and not a.c or a.d:\n    x = 1\n", path=path_of(decisions))
        assert [key for key, *_ in decisions.asked] == ["train.py: a.b", "train.py: a.c", "train.py: a.d"]


def test_a_method_of_a_library_that_is_replaced_is_recorded() -> None:
    """It may do anything then."""
    path = path_of()
    value_of("import trl\ndef f(): ...\ntrl.SFTTrainer.training_step = f\n", path=path)
    ((_, name, _, place),) = path.patched
    assert (name, place.line) == ("training_step", 3)


def test_a_long_path_is_given_up() -> None:
    """An audit ends in time."""
    path = path_of()
    with pytest.raises(Exhausted):
        path.run(source("x = 1\n" * MOST_STEPS))
    assert path.steps == MOST_STEPS + 1
