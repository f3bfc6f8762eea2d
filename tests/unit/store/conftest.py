"""Fixtures of the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest
from finetune_compat.store.remote import Remote


@pytest.fixture
def shared() -> Iterator[Remote]:
    """An empty shared store in this process's memory."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield Remote("memory://team/compat")
    fs.store.clear()
