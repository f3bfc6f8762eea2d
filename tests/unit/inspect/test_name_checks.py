"""Checks of the names of tensors against the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapter_stories import MAYBE_EXCLUDED, WITH_DOWN, Example, found, judged, loading, stories_of
from finetune_compat.inspect import name_checks


@pytest.mark.parametrize("given", stories_of(name_checks), ids=str)
def test_a_check_reports_its_fault_and_nothing_else(tmp_path: Path, given: Example) -> None:
    """The message is exactly one sentence; healthy adapters have none."""
    seen = found(tmp_path, given).get(given.code)
    assert (seen and seen.sentence) == given.sentence


def test_a_load_settles_which_targets_are_excluded(tmp_path: Path) -> None:
    """PEFT then named the modules it adapts; a failed load settles nothing."""
    excluding = {"target_modules": WITH_DOWN, "exclude_modules": ".*mlp.*"}
    assert "S110" not in judged(tmp_path, loading(), **excluding)
    assert judged(tmp_path, loading(error="ValueError: no"), **excluding)["S110"] == MAYBE_EXCLUDED
