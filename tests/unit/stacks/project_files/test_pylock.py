"""pylock.toml, as PEP 751 defines it."""

from __future__ import annotations

from project_builders import read


def test_a_real_pylock_says_the_same_as_the_uv_lock_it_was_exported_from() -> None:
    """All groups and extras were exported, so all of its packages are always installed."""
    locked = {str(item) for item in read("uv/uv.lock").packages}
    assert {str(item) for item in read("pylock/pylock.toml").packages} == locked
    assert not any(item.groups for item in read("pylock/pylock.toml").packages)
    assert {str(item) for item in read("pylock/pylock.toml").on("3.11")} == {
        str(item) for item in read("uv/uv.lock").on("3.11")
    }
