"""Ranges against windows, compared with asking for each of many versions."""

from __future__ import annotations

import pytest
from finetune_compat.affected.windows import allows, excludes
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

EVERY = [Version(f"{a}.{b}.{c}") for a in range(3) for b in range(5) for c in range(4)]
"""All releases that exist in the tests below."""

_VERSIONS = st.sampled_from([str(version) for version in EVERY])
_SPECIFIERS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([">=", "<", "<=", ">", "==", "!=", "~="]), _VERSIONS).map("".join),
        st.tuples(st.integers(0, 2), st.integers(0, 4)).map(lambda at: f"=={at[0]}.{at[1]}.*"),
    ),
    max_size=3,
).map(lambda parts: SpecifierSet(",".join(parts)))


@given(asked=_SPECIFIERS, window=_SPECIFIERS)
def test_a_release_in_both_is_never_overlooked(asked: SpecifierSet, window: SpecifierSet) -> None:
    """The definition of both functions, with every release tried."""
    inside = [version for version in EVERY if version in asked]
    assert allows(asked, window) >= any(version in window for version in inside)
    assert excludes(asked, window) >= any(version not in window for version in inside)


@pytest.mark.parametrize(
    ("asked", "window", "answer"),
    [
        ("==0.22.2", ">=0.20.0,<0.23.1", True),
        ("==0.23.1", ">=0.20.0,<0.23.1", False),
        ("==0.19.1", ">=0.20.0,<0.23.1", False),
        ("", ">=0.20.0,<0.23.1", True),
        (">=0.23.1", ">=0.20.0,<0.23.1", False),
        (">0.23.0", ">=0.20.0,<0.23.1", True),
        ("<0.20", ">=0.20.0,<0.23.1", False),
        ("<=0.20", ">=0.20.0,<0.23.1", True),
        ("~=0.22.0", ">=0.20.0,<0.23.1", True),
        ("~=0.24", ">=0.20.0,<0.23.1", False),
        ("==0.22.*", ">=0.20.0,<0.23.1", True),
        (">=0.19,<1,!=0.20.*,!=0.21.*,!=0.22.*,!=0.23.0", ">=0.20.0,<0.23.1", True),  # 0.23.0.1
        ("===0.22.2", ">=0.20.0,<0.23.1", True),
    ],
)
def test_ranges_against_the_window_of_one_issue(asked: str, window: str, answer: bool) -> None:
    """A range is answered for what it would allow."""
    assert allows(SpecifierSet(asked), SpecifierSet(window)) is answer


@pytest.mark.parametrize(("asked", "answer"), [(">=0.20,<0.23", False), (">=0.20", True), ("==0.22.2", False)])
def test_a_range_inside_a_window_has_no_version_outside(asked: str, answer: bool) -> None:
    """Then every version that the range allows is hit."""
    assert excludes(SpecifierSet(asked), SpecifierSet(">=0.20.0,<0.23.1")) is answer
