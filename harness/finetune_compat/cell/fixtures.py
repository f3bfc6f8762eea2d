"""Fixtures for a user's own test suite; installing this package publishes them as a pytest plugin.

Loading the plugin imports nothing but pytest: a test that uses no fixture pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finetune_compat.cell.stages import StageRecorder


@pytest.fixture
def stage_recorder() -> StageRecorder:
    """Counts trainable parameters at each call, `stage_recorder("peft", model)`. Its methods assert on the counts."""
    from finetune_compat.cell.stages import StageRecorder

    return StageRecorder()


@pytest.fixture
def assert_trains() -> Callable[..., None]:
    """`assert_trains(trainer, steps=10)` trains, and asserts gradients, changed weights and a changed eval loss."""
    from finetune_compat.cell.assertions import assert_trains

    return assert_trains
