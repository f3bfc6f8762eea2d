"""`--accept` replaces the expected files by what the renderers produce now."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option exists only if tests/golden is on the command line."""
    parser.addoption("--accept", action="store_true", help="write the expected files of golden scenarios anew")
