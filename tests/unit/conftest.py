"""What all unit tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# No deadline: how long one example takes says something about the machine, and these tests share it with cells.
settings.register_profile("host", deadline=None)
settings.load_profile("host")


@pytest.fixture(autouse=True)
def _no_store_of_the_users(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has an empty store of its own, and no shared one."""
    monkeypatch.setenv("COMPAT_STORE", str(tmp_path_factory.mktemp("store")))
    monkeypatch.delenv("COMPAT_STORE_REMOTE", raising=False)
