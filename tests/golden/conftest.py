"""`--accept` makes what the renderers say now what they are expected to say."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known where tests/golden is named on the command line, which is the only place it is meant for."""
    parser.addoption("--accept", action="store_true", help="write the expected files of golden scenarios anew")
