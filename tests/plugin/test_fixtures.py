"""The fixtures as a pytest plugin, in a pytest subprocess without torch: cost and side effects of loading them."""

from __future__ import annotations

import os

import pytest
from finetune_compat.machine.places import PACKAGE

ROOT = PACKAGE.parents[1]

LIGHT = """
import sys

def test_nothing_of_a_stack_is_loaded():
    ours = {f"finetune_compat.cell.{name}" for name in ("stages", "assertions")}
    assert {"torch", "transformers", *ours}.isdisjoint(sys.modules)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's tests, run by a separate pytest, possibly in a worker."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "harness"))
    for name in [name for name in os.environ if name.startswith(("PYTEST_XDIST", "PYTEST_ADDOPTS"))]:
        monkeypatch.delenv(name)
    return pytester


def test_a_suite_that_does_not_use_them_loads_nothing(suite: pytest.Pytester) -> None:
    """Neither torch nor Transformers is imported, and no warning is raised."""
    suite.makepyfile(LIGHT)
    result = suite.runpytest_subprocess("-p", "finetune_compat.cell.fixtures", "-W", "error")
    result.assert_outcomes(passed=1)


def test_both_are_listed_with_what_they_do(suite: pytest.Pytester) -> None:
    """pytest --fixtures shows them."""
    result = suite.runpytest_subprocess("-p", "finetune_compat.cell.fixtures", "--fixtures", "-q")
    result.stdout.fnmatch_lines(["stage_recorder -- *", "*Counts trainable parameters*"])
    result.stdout.fnmatch_lines(["assert_trains -- *", "*asserts gradients*"])


def test_named_twice_they_are_one_plugin(suite: pytest.Pytester) -> None:
    """The plugin is named on the command line next to the plugin of a cell process: neither changes the other."""
    suite.makepyfile(LIGHT)
    twice = ("-p", "finetune_compat.cell.fixtures", "-p", "finetune_compat.cell.fixtures")
    suite.runpytest_subprocess(*twice).assert_outcomes(passed=1)
    result = suite.runpytest_subprocess(*twice, "-p", "finetune_compat.cell.plugin")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert next(line for line in result.errlines if line).startswith("ERROR: --plan: no plan file was named.")
