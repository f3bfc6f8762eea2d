"""The guard's share of a run: three first checks, then one in fifty steps, and what happens once."""

from __future__ import annotations

import dataclasses
import re

import pytest
from finetune_compat.machine.places import PACKAGE
from guard_share import EVERY, Cost

ROOT = PACKAGE.parents[1]

FREE = Cost(step=1.0, begin=0.0, first=(0.0,) * 5, idle=0.0, looking=0.0)


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({}, 0.0),
        ({"begin": 0.5}, 0.005),
        ({"first": (0.1, 0.1, 0.1, 0.2, 0.0)}, 0.005),
        ({"idle": 0.001}, 0.001 * 94 / 100),
        ({"looking": 0.2}, 0.2 / 100),  # step 51; those before it are among the first
        ({"step": 0.5, "begin": 0.5}, 0.01),
    ],
)
def test_the_share_of_a_run_is_all_that_the_guard_does_in_it(changes: dict[str, float], share: float) -> None:
    """The run has a hundred steps of a second, or of half a second."""
    assert dataclasses.replace(FREE, **changes).share == pytest.approx(share)  # type: ignore[arg-type]


def test_in_the_long_run_one_step_in_fifty_is_looked_at() -> None:
    """Every other step costs one comparison."""
    assert dataclasses.replace(FREE, idle=0.001, looking=0.051).later == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("changes", "too_much"),
    [
        ({}, False),
        ({"begin": 0.99}, False),
        ({"begin": 1.0}, True),  # 1 % of a hundred steps of a second
        ({"looking": 0.49}, False),
        ({"looking": 0.5}, True),  # 1 % of a step, spread over fifty
        ({"idle": 0.011}, True),
    ],
)
def test_a_hundredth_is_too_much(changes: dict[str, float], too_much: bool) -> None:
    """The limit holds for a run of a hundred steps and in the long run."""
    assert dataclasses.replace(FREE, **changes).too_much is too_much


def test_the_benchmark_uses_the_guards_default_interval() -> None:
    """The interval is the guard's default, read without a stack."""
    text = (ROOT / "harness" / "finetune_compat" / "cell" / "guard.py").read_text(encoding="utf-8")
    assert re.search(rf"every: int = {EVERY}, patience: int = 3\b", text)


@pytest.mark.parametrize("page", ["docs/matrix.md", "docs/guard.md"])
def test_the_pages_name_the_command_that_measures_it(page: str) -> None:
    """The command is next to the figure."""
    assert "--guard-overhead" in (ROOT / page).read_text(encoding="utf-8")
