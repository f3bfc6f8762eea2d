"""Pipfile.lock, version 6."""

from __future__ import annotations

import re
from typing import Any

import pytest
from finetune_compat.stacks.project_files.pipfile_lock import read as read_lock
from finetune_compat.stacks.project_files.value import Kind, Origin, Project
from project_builders import CASES, read, refused, shown, text


def test_a_real_pipfile_lock() -> None:
    """Every entry is a package; those of `develop` are in the group dev."""
    found = read("pipenv/Pipfile.lock")
    text = (CASES / "pipenv" / "Pipfile.lock").read_text()
    assert len(found.packages) == len(re.findall(r'"version": "==', text))
    lines = text.splitlines()
    assert all(f'"{item.name}": {{' in lines[item.place.line - 1].lower() for item in found.packages)
    assert {item.name for item in found.packages if item.groups} == {
        *("iniconfig", "packaging", "pluggy", "pygments", "pytest")
    }
    assert "trl==0.22.2" in map(str, found.packages)


SOURCES = [{"name": "pypi", "url": "https://pypi.org/simple"}, {"name": "pytorch", "url": "https://x.org/whl"}]


def lock(table: object, section: str = "default", content: str = "", **meta: Any) -> Project:
    """A lock with one package in one section."""
    raw = {"_meta": {"pipfile-spec": 6, "sources": SOURCES, **meta}, section: {"Py_YAML": table}}
    return read_lock(text(content), raw)


@pytest.mark.parametrize(
    ("table", "package"),
    [
        ({"version": "==6.0"}, "py-yaml==6.0"),
        ({"version": "*"}, "py-yaml"),
        ({"version": "==6.0", "extras": ["b", "a"]}, "py-yaml[a,b]==6.0"),
        ({"version": "==6.0", "markers": "python_version < '3.12'"}, 'py-yaml==6.0 if python_version < "3.12"'),
        ({"git": "https://x.org/yaml.git", "ref": "ab12"}, "py-yaml @ git+https://x.org/yaml.git@ab12"),
        ({"editable": True, "path": "."}, "py-yaml @ ."),
        ({"file": "https://x.org/yaml.tar.gz"}, "py-yaml @ https://x.org/yaml.tar.gz"),
    ],
)
def test_a_package(table: dict[str, Any], package: str) -> None:
    """Versions are specifiers there."""
    assert shown(lock(table)) == [package]


@pytest.mark.parametrize(
    ("section", "groups"), [("default", ()), ("develop", ("group dev",)), ("train", ("group train",))]
)
def test_a_section_is_a_group(section: str, groups: tuple[str, ...]) -> None:
    """`default` is always installed; others than `develop` are categories of the Pipfile."""
    (found,) = lock({"version": "==6.0"}, section).packages
    assert found.groups == groups


def test_an_index_is_named_by_the_sources() -> None:
    """The address is stated once for all packages."""
    (found,) = lock({"version": "==6.0", "index": "pytorch"}).packages
    assert (found.source.origin, found.source.address) == (Origin.INDEX, "https://x.org/whl")


def test_the_python_of_the_lock() -> None:
    """Any patch of it."""
    assert lock({}, requires={"python_version": "3.11"}).requires_python == "==3.11.*"
    assert lock({}).requires_python == ""
    assert lock({}).kind is Kind.PIPFILE_LOCK


CONTENT = '{\n"_meta": {\n"pipfile-spec": 6},\n"default": {\n"Py_YAML": {}}}'


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ([], "file: it has no table `_meta`"),
        ({"default": {}}, "file: it has no table `_meta`"),
        ({"_meta": {"pipfile-spec": 5}}, "file:3: its format has version 5, and version 6 is read"),
        ({"_meta": {}}, "file:3: its format has version None, and version 6 is read"),
        ({"_meta": {"pipfile-spec": 6}, "default": []}, "file: default is [] and not a table"),
    ],
)
def test_what_is_no_such_lock_is_refused(raw: object, problem: str) -> None:
    """Another version may mean something else."""
    assert refused(lambda: read_lock(text(CONTENT), raw)) == problem


def test_a_damaged_entry_has_its_line() -> None:
    """The first after the header of its section."""
    assert refused(lambda: lock("==6.0", content=CONTENT)) == "file:5: the entry of 'Py_YAML' is not a table"
    problem = refused(lambda: lock({"version": "6.0"}, content=CONTENT))
    assert problem.startswith("file:5: 'Py_YAML 6.0' is not a valid requirement: ")
