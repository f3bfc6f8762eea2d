"""The order in which stacks are shown."""

from __future__ import annotations

import random

from finetune_compat.results.order import same_axis, stack_order
from finetune_compat.stacks.matrix import read_matrix


def test_stacks_are_in_the_order_of_axes_and_of_versions_as_numbers() -> None:
    """0.9 comes before 0.10, patches before the minor that means the newest one, Pythons by number, unknown stacks
    last.
    """
    ordered = [
        "trl0.9-py311",
        "trl0.10-py39",
        "trl0.10-py311",
        "trl0.22.0-py311",
        "trl0.22.1-py311",
        "trl0.22-py311",
        "trl0.22-py312",
        "trl0.23.0-py311",
        "trl1.2-py311",
        "trl1.16-py311",
        "transformers4.57-py311",
        "transformers5.0-py311",
        "peft0.9-py311",
        "peft0.17-py311",
        "accelerate1.0-py311",
        "latest-py311",
        "my_stack",
    ]
    shuffled = ordered.copy()
    random.Random(3).shuffle(shuffled)
    assert sorted(shuffled, key=stack_order) == ordered


def test_the_matrix_is_in_order_already() -> None:
    """The stacks of the committed matrix keep the order of its file."""
    names = [stack.on(python) for stack in read_matrix().stacks for python in stack.pythons]
    assert sorted(names, key=stack_order) == names


def test_stacks_of_one_package_are_of_one_axis() -> None:
    """Python and version do not matter. Unknown names are of one axis."""
    assert same_axis("trl0.9-py311", "trl1.16-py312")
    assert not same_axis("trl0.9-py311", "transformers4.57-py311")
    assert same_axis("mine", "yours")
