"""One browser for all pages, and the pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "golden"), str(HERE.parent / "unit"), str(HERE)]

import browser  # noqa: E402 - after the path is set


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option exists only if tests/pages is on the command line."""
    parser.addoption("--shots", type=Path, help="a directory to keep pictures of every page in, to be looked at")


@pytest.fixture(scope="session")
def page() -> Iterator[browser.Page]:
    """One tab."""
    with browser.opened() as tab:
        yield tab
