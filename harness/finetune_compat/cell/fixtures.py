"""Fixtures for a user's own test suite; installing this package publishes them as a pytest plugin.

Loading it imports pytest, which is there already, and nothing else: what a test does not ask for costs it nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finetune_compat.cell.stages import StageRecorder


@pytest.fixture
def stage_recorder() -> StageRecorder:
    """Counts trainable parameters where you call it, `stage_recorder("peft", model)`, and asserts what must hold."""
    from finetune_compat.cell.stages import StageRecorder

    return StageRecorder()


@pytest.fixture
def assert_trains() -> Callable[..., None]:
    """`assert_trains(trainer, steps=10)` trains, and demands gradients, weights that change and an eval loss that
    moves.
    """
    from finetune_compat.cell.assertions import assert_trains

    return assert_trains
