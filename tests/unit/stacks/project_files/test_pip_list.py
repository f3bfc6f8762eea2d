"""The output of `pip list --format json`."""

from __future__ import annotations

from typing import Any

import pytest
from finetune_compat.stacks.project_files.pip_list import read
from finetune_compat.stacks.project_files.value import Kind, Project
from project_builders import refused, shown, text

TRL = {"name": "trl", "version": "0.22.2"}


def listed(*packages: Any, content: str = "") -> Project:
    """What pip lists."""
    return read(text(content), list(packages))


def test_packages_have_their_lines() -> None:
    """uv writes one entry over several lines, pip writes all in one."""
    content = '[\n{"name": "trl",\n"version": "0.22.2"},\n{"name": "Typing_Extensions", "version": "4.15.0"}]'
    found = listed(TRL, {"name": "Typing_Extensions", "version": "4.15.0"}, content=content)
    assert (found.kind, shown(found)) == (Kind.PIP_LIST, ["trl==0.22.2 on 2", "typing-extensions==4.15.0 on 4"])
    assert [item.version for item in found.packages] == ["0.22.2", "4.15.0"]


def test_an_editable_installation_has_its_folder() -> None:
    """It is not from an index."""
    assert shown(listed({**TRL, "editable_project_location": "/home/me/trl"})) == ["trl @ /home/me/trl on 1"]


def test_packages_of_conda_are_named() -> None:
    """`conda list --json` has a channel for each package; `pypi` is what pip installed."""
    found = listed({**TRL, "channel": "pypi"}, {"name": "libgcc-ng", "version": "13.2.0", "channel": "conda-forge"})
    assert [item.name for item in found.packages] == ["trl"]
    assert list(map(str, found.unread)) == ["libgcc-ng 13.2.0: a package of conda, and only those of pip are read"]


def test_nothing_may_be_installed() -> None:
    """An empty environment is a project without packages."""
    assert listed().packages == ()


@pytest.mark.parametrize("raw", [{"name": "trl"}, "trl", None])
def test_what_is_no_list_is_refused(raw: object) -> None:
    """JSON is used for much."""
    assert refused(lambda: read(text(""), raw)) == f"file: it is {raw!r} and not a list of packages"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("trl", "its entry 2 is 'trl' and not a package"),
        ({"name": "trl"}, "None is not a version of trl"),
        ({"version": "1"}, "None is not the name of a package"),
    ],
)
def test_what_is_no_package_is_refused(entry: object, problem: str) -> None:
    """With its number, or its place."""
    assert refused(lambda: listed(TRL, entry)) == f"file:1: {problem}"
