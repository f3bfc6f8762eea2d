"""Tables of lock files are checked before they are used."""

from __future__ import annotations

import pytest
from finetune_compat.stacks.project_files.tables import Locked, only_elsewhere, strings, table_of, tables
from finetune_compat.stacks.project_files.value import Kind
from project_builders import AT, refused, text

KIND = Kind.POETRY_LOCK


def test_a_name_is_canonical() -> None:
    """As PEP 503 defines it."""
    assert Locked({"name": "Typing_Extensions"}, AT).name(KIND) == "typing-extensions"


@pytest.mark.parametrize("table", [{}, {"name": ""}, {"name": 3}])
def test_a_package_without_a_name_is_refused(table: dict[str, object]) -> None:
    """At its place."""
    assert refused(lambda: Locked(table, AT).name(KIND)) == "file:3: a package has no name"


def test_each_table_has_the_line_of_its_header() -> None:
    """Blank lines and tables inside do not count."""
    content = '[[package]]\nname = "a"\n[package.source]\n\n[[package]]\nname = "b"\n'
    raw = {"package": [{"name": "a", "source": {}}, {"name": "b"}]}
    found = tables(raw, "package", text(content), KIND)
    assert [(item.table["name"], item.place.line) for item in found] == [("a", 1), ("b", 5)]


@pytest.mark.parametrize("raw", [{}, {"package": {}}, {"package": ["a"]}])
def test_what_is_no_list_of_tables_is_refused(raw: dict[str, object]) -> None:
    """A lock has one."""
    assert refused(lambda: tables(raw, "package", text(""), KIND)) == "file: it has no list of tables [[package]]"


def test_a_table_that_is_not_there_is_empty() -> None:
    """Another value is refused."""
    assert table_of({}, "metadata", AT, KIND) == {}
    assert table_of({"metadata": {"a": 1}}, "metadata", AT, KIND) == {"a": 1}
    assert refused(lambda: table_of({"metadata": [1]}, "metadata", AT, KIND)) == (
        "file:3: metadata is [1] and not a table"
    )


def test_a_list_of_texts_that_is_not_there_is_empty() -> None:
    """Another value, or another item, is refused."""
    assert list(strings({}, "groups", AT, KIND)) == []
    assert list(strings({"groups": ["main"]}, "groups", AT, KIND)) == ["main"]
    for value in ("main", ["main", 1], {"main": 1}):
        problem = refused(lambda value=value: strings({"groups": value}, "groups", AT, KIND))
        assert problem == f"file:3: groups is {value!r} and not a list of texts"


@pytest.mark.parametrize(
    ("names", "elsewhere"),
    [
        (["x-1-cp311-cp311-win_amd64.whl", "x-1-cp311-cp311-macosx_11_0_arm64.whl"], True),
        (["x-1-cp311-cp311-win_amd64.whl", "x-1.tar.gz"], False),
        (["x-1-cp311-cp311-win_amd64.whl", "x-1-py3-none-any.whl"], False),
        (["x-1-cp311-cp311-manylinux_2_17_x86_64.whl"], False),
        # One wheel may have tags of several platforms.
        (["x-1-cp311-cp311-macosx_11_0_arm64.manylinux_2_17_x86_64.whl"], False),
        (["https://x.org/w/x-1-cp311-cp311-win32.whl"], True),
        ([], False),
    ],
)
def test_wheels_for_other_platforms_only(names: list[str], elsewhere: bool) -> None:
    """A source, or a wheel for Linux or for any platform, can be installed on Linux."""
    key = "url" if names and "://" in names[0] else "file"
    assert only_elsewhere([{key: name, "hash": "sha256:0"} for name in names]) is elsewhere


@pytest.mark.parametrize("files", [None, "x", {}, [1]])
def test_files_that_are_not_listed_say_nothing(files: object) -> None:
    """Older locks list them elsewhere."""
    assert only_elsewhere(files) is False
