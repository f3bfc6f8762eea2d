"""Who needs a locked package: by group, and by Python version on Linux."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.project_files.graph import NOWHERE, PYTHONS, Edge, Reached, marker_of, mask_of, reached
from finetune_compat.stacks.project_files.value import holds
from hypothesis import given
from hypothesis import strategies as st
from packaging.markers import Marker


@given(mask=st.integers(0, (1 << len(PYTHONS)) - 1))
def test_a_marker_holds_on_the_versions_of_its_mask(mask: int) -> None:
    """And on no other."""
    marker = marker_of(mask)
    there = [python for place, python in enumerate(PYTHONS) if mask >> place & 1]
    assert [python for python in PYTHONS if not marker or holds(Marker(marker), python)] == there
    assert (marker == "") == (there == [*PYTHONS]) and (marker == NOWHERE) == (there == [])


@pytest.mark.parametrize(
    ("marker", "pythons"),
    [
        ("", PYTHONS),
        ("sys_platform == 'win32'", ()),
        ("python_version < '3.10'", ("3.8", "3.9")),
        ("python_full_version >= '3.15' and os_name == 'posix'", ("3.15", "3.16")),
    ],
)
def test_the_mask_of_a_marker(marker: str, pythons: tuple[str, ...]) -> None:
    """One bit for each Python version where it holds on Linux."""
    assert [python for place, python in enumerate(PYTHONS) if mask_of(marker) >> place & 1] == [*pythons]


def test_groups_and_markers_add_up_along_the_way() -> None:
    """0 is always there, brings 1 on Windows, and 2 with an extra; a group brings 3, which needs 0 and itself."""
    edges = {
        (0, ""): [Edge(1, (), "sys_platform == 'win32'")],
        (0, "more"): [Edge(2)],
        (3, ""): [Edge(0), Edge(4, (), "python_version < '3.12'"), Edge(3)],
    }
    found = reached(
        {"": [Edge(0, ("more",))], "group dev": [Edge(3)]}, lambda place, extra: edges.get((place, extra), [])
    )
    assert found == {
        0: Reached((), ""),
        1: Reached((), NOWHERE),
        2: Reached((), ""),
        3: Reached(("group dev",), ""),
        4: Reached(("group dev",), 'python_version < "3.12"'),
    }
