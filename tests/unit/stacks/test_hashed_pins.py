"""Hashed requirements files in uv's format."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.hashed_pins import Malformed, Pin, pins_of

HASHED = ["trl==0.23.1 \\", f"    --hash=sha256:{'a' * 64} \\", f"    --hash=sha256:{'b' * 64}"]


def test_hashed_pins_are_read_whole() -> None:
    """Markers are allowed only in their place."""
    assert pins_of(HASHED) == (Pin("trl", "0.23.1", frozenset({"a" * 64, "b" * 64})),)
    marked = ["trl==0.23.1 ; sys_platform == 'linux' \\", HASHED[2]]
    assert pins_of(marked, markers=True) == (Pin("trl", "0.23.1", frozenset({"b" * 64})),)
    with pytest.raises(Malformed, match=r"^line 7 is neither"):
        pins_of(marked, first_line=7)


@pytest.mark.parametrize(
    "lines",
    [[], HASHED[:1], HASHED[:2], HASHED[1:], [*HASHED, *HASHED], [HASHED[0], *HASHED], [*HASHED, "# more"]],
)
def test_truncated_or_changed_hashed_pins_are_refused(lines: list[str]) -> None:
    """Examples: an empty file, no hash, a file cut inside hashes, no package, a duplicate, one without a hash, another
    line.
    """
    with pytest.raises(Malformed):
        pins_of(lines)
