"""poetry.lock: version 1 has the category of a package, version 2 its groups and markers."""

from __future__ import annotations

from typing import Any

import pytest
from finetune_compat.stacks.project_files.graph import NOWHERE
from finetune_compat.stacks.project_files.poetry_lock import read
from finetune_compat.stacks.project_files.value import Kind, Origin, Project
from packaging.specifiers import SpecifierSet
from project_builders import refused, shown, text

LINES = '[[package]]\n[extras]\n[metadata]\nlock-version = "2.1"\npython-versions = ">=3.11,<4"\n'


def lock(*packages: dict[str, Any], extras: Any = None, **metadata: Any) -> Project:
    """A lock of these packages."""
    raw = {"package": list(packages), "extras": extras or {}, "metadata": {"lock-version": "2.1", **metadata}}
    return read(text(LINES), raw)


TRL: dict[str, Any] = {"name": "trl", "version": "0.22.2", "groups": ["main"], "optional": False}


@pytest.mark.parametrize(
    ("changed", "package"),
    [
        ({}, "trl==0.22.2 on 1"),
        ({"groups": ["main", "dev"]}, "trl==0.22.2 on 1"),
        ({"groups": ["dev", "test"]}, "trl==0.22.2 on 1 in group dev, group test"),
        ({"markers": 'python_version < "3.12"'}, 'trl==0.22.2 on 1 if python_version < "3.12"'),
        ({"files": [{"file": "trl-0.22.2-cp311-cp311-macosx_11_0_arm64.whl"}]}, f"trl==0.22.2 on 1 if {NOWHERE}"),
    ],
)
def test_a_package_of_version_2(changed: dict[str, Any], package: str) -> None:
    """The group `main` is always installed."""
    assert shown(lock({**TRL, **changed})) == [package]


@pytest.mark.parametrize(
    ("category", "groups"), [({}, ()), ({"category": "main"}, ()), ({"category": "dev"}, ("group dev",))]
)
def test_a_package_of_version_1(category: dict[str, str], groups: tuple[str, ...]) -> None:
    """It has no groups, and no markers."""
    (found,) = lock({"name": "trl", "version": "0.22.2", **category}, **{"lock-version": "1.1"}).packages
    assert found.groups == groups


def test_each_group_may_have_its_marker() -> None:
    """One of them is enough; a group that is not among them needs the package everywhere."""
    markers = {"dev": 'python_version < "3.12"', "test": 'python_version >= "3.13"'}
    (found,) = lock({**TRL, "groups": ["dev", "test"], "markers": markers}).packages
    assert found.marker == '(python_version < "3.12") or (python_version >= "3.13")'
    (found,) = lock({**TRL, "groups": ["dev", "test", "docs"], "markers": markers}).packages
    assert found.marker == ""


OPTIONAL = {**TRL, "name": "Bits_And", "optional": True}


class TestExtras:
    def test_an_optional_package_is_brought_by_extras(self) -> None:
        """By its name, which older versions write with its range."""
        found = lock(OPTIONAL, extras={"quant": ["bits-and (>=0.47)"], "all": ["bits-and"], "docs": ["sphinx"]})
        assert shown(found) == ["bits-and==0.22.2 on 1 in extra all, extra quant"]

    def test_a_marker_may_name_the_extra(self) -> None:
        """As version 2.1 writes it. On which Pythons it is needed stays."""
        found = lock(
            {**OPTIONAL, "markers": 'extra == "quant" and python_version < "3.12"'},
            extras={"quant": [], "docs": []},
        )
        (package,) = found.packages
        assert package.groups == ("extra quant",)
        assert "extra" not in package.marker
        assert [len(found.on(python)) for python in ("3.11", "3.12")] == [1, 0]

    def test_what_no_extra_brings_is_in_an_extra(self) -> None:
        """It is not installed by itself."""
        assert shown(lock(OPTIONAL)) == ["bits-and==0.22.2 on 1 in an extra"]


@pytest.mark.parametrize(
    ("source", "origin", "address"),
    [
        (
            {"type": "git", "url": "https://x.org/trl.git", "reference": "main", "resolved_reference": "ab12"},
            Origin.GIT,
            "git+https://x.org/trl.git@ab12",
        ),
        ({"type": "git", "url": "https://x.org/trl", "reference": "v1"}, Origin.GIT, "git+https://x.org/trl@v1"),
        ({"type": "url", "url": "https://x.org/trl.whl"}, Origin.URL, "https://x.org/trl.whl"),
        ({"type": "directory", "url": "../trl"}, Origin.PATH, "../trl"),
        ({"type": "file", "url": "trl.whl"}, Origin.PATH, "trl.whl"),
        ({"type": "legacy", "url": "https://x.org/simple"}, Origin.INDEX, "https://x.org/simple"),
        ({}, Origin.INDEX, ""),
    ],
)
def test_sources(source: dict[str, str], origin: Origin, address: str) -> None:
    """`legacy` is Poetry's word for another index."""
    (found,) = lock({**TRL, "source": source}).packages
    assert (found.source.origin, found.source.address) == (origin, address)


def test_the_python() -> None:
    """In Poetry's own form of ranges."""
    found = lock(**{"python-versions": "^3.11"})
    assert (found.kind, SpecifierSet(found.requires_python)) == (Kind.POETRY_LOCK, SpecifierSet(">=3.11,<4.0"))


def test_what_is_no_such_lock_is_refused() -> None:
    """A later version may mean something else."""
    assert refused(lambda: lock(**{"lock-version": "3.0"})) == (
        "file:4: its format has version '3.0', and version 1 or 2 is read"
    )
    assert refused(lambda: read(text(""), {"package": {}})) == "file: it has no list of tables [[package]]"
    assert refused(lambda: lock({"name": "trl"})) == "file:1: None is not a version of trl"
