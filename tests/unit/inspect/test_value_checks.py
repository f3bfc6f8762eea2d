"""Checks of the values of a saved adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_stories import Example, found, stories_of
from finetune_compat.inspect import value_checks


@pytest.mark.parametrize("given", stories_of(value_checks), ids=str)
def test_a_check_reports_its_fault_and_nothing_else(tmp_path: Path, given: Example) -> None:
    """The message is exactly one sentence; healthy adapters have none."""
    seen = found(tmp_path, given).get(given.code)
    assert (seen and seen.sentence) == given.sentence
