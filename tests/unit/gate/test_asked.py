"""The release that a move asks for, and how it is shown."""

from __future__ import annotations

import pytest
from finetune_compat.gate.asked import Move
from packaging.version import Version


@pytest.mark.parametrize(
    ("specifier", "release"),
    [
        ("==0.22.2", Version("0.22.2")),
        ("== 0.22.2", Version("0.22.2")),
        ("==0.22.*", None),
        ("==0.22.2,!=0.22.1", None),
        (">=0.22", None),
        ("", None),
    ],
)
def test_only_one_release_is_exact(specifier: str, release: Version | None) -> None:
    """The index must tell which release a range or nothing means."""
    assert Move("trl", specifier).exact == release


def test_a_build_is_not_exact_and_shows_no_password() -> None:
    move = Move("trl", secret_address="https://me:hunter2@example.org/trl.git")
    assert move.exact is None
    assert str(move).startswith("trl @ https://") and "hunter2" not in str(move) + repr(move)
