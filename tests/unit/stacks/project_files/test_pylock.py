"""pylock.toml, as PEP 751 defines it."""

from __future__ import annotations

from typing import Any

import pytest
from finetune_compat.stacks.project_files.graph import NOWHERE
from finetune_compat.stacks.project_files.pylock import read as read_lock
from finetune_compat.stacks.project_files.value import Origin, Project
from project_builders import read, refused, text


def test_a_real_pylock_says_the_same_as_the_uv_lock_it_was_exported_from() -> None:
    """All groups and extras were exported, so all of its packages are always installed."""
    locked = {str(item) for item in read("uv/uv.lock").packages}
    assert {str(item) for item in read("pylock/pylock.toml").packages} == locked
    assert not any(item.groups for item in read("pylock/pylock.toml").packages)
    assert {str(item) for item in read("pylock/pylock.toml").on("3.11")} == {
        str(item) for item in read("uv/uv.lock").on("3.11")
    }


WHEEL = {
    "name": "trl-0.22.2-py3-none-any.whl",
    "url": "https://x.org/trl-0.22.2-py3-none-any.whl",
    "hashes": {"sha256": "0" * 64},
}
TRL: dict[str, Any] = {"name": "trl", "version": "0.22.2", "wheels": [WHEEL]}
LINES = 'lock-version = "1.0"\n[[packages]]\nname = "trl"\n'


def lock(package: dict[str, Any], **fields: Any) -> Project:
    """A lock of one package."""
    raw = {"lock-version": "1.0", "created-by": "a test", "packages": [package], **fields}
    return read_lock(text(LINES), raw)


def test_a_package_has_its_version_and_its_line() -> None:
    """And the lock its Python."""
    found = lock(TRL, **{"requires-python": ">=3.11"})
    (package,) = found.packages
    assert (str(package), package.place.line, package.marker, package.groups) == ("trl==0.22.2", 2, "", ())
    assert [found.requires_python, lock(TRL).requires_python] == [">=3.11", ""]


GROUPS = {"dependency-groups": ["dev", "test"], "default-groups": ["test"], "extras": ["quant"]}


@pytest.mark.parametrize(
    ("marker", "groups"),
    [
        ("'test' in dependency_groups", ()),
        ("'dev' in dependency_groups", ("group dev",)),
        ("'quant' in extras", ("extra quant",)),
        ("'quant' in extras or 'dev' in dependency_groups", ("extra quant", "group dev")),
        ("'quant' in extras or python_version >= '3.8'", ()),
    ],
)
def test_a_marker_says_who_brings_a_package(marker: str, groups: tuple[str, ...]) -> None:
    """Default groups are installed unless others are asked for."""
    found = lock({**TRL, "marker": marker}, **GROUPS)
    assert found.packages[0].groups == groups
    assert len(found.on("3.11")) == 1


def test_a_marker_by_python_stays() -> None:
    """Beside the group."""
    found = lock({**TRL, "marker": "python_version < '3.12' and 'dev' in dependency_groups"}, **GROUPS)
    assert found.packages[0].groups == ("group dev",)
    assert [len(found.on(python)) for python in ("3.11", "3.12")] == [1, 0]


def test_a_package_of_other_platforms_is_never_installed() -> None:
    """Whatever is selected."""
    (found,) = lock({**TRL, "marker": "sys_platform == 'win32'"}, **GROUPS).packages
    assert (found.marker, found.groups) == (NOWHERE, ())


COMMIT = "0f9ab5d1c2b3a4958677665544332211ffeeddcc"
HASHED = {"hashes": {"sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("fields", "origin", "address"),
    [
        (
            {"vcs": {"type": "git", "url": "https://x.org/trl", "commit-id": COMMIT}},
            Origin.GIT,
            f"git+https://x.org/trl@{COMMIT}",
        ),
        ({"directory": {"path": "../trl", "editable": True}}, Origin.PATH, "../trl"),
        ({"archive": {"url": "https://x.org/trl.zip", **HASHED}}, Origin.URL, "https://x.org/trl.zip"),
        ({"archive": {"path": "trl.zip", **HASHED}}, Origin.PATH, "trl.zip"),
        ({"index": "https://x.org/simple", "wheels": [WHEEL]}, Origin.INDEX, "https://x.org/simple"),
    ],
)
def test_sources(fields: dict[str, Any], origin: Origin, address: str) -> None:
    """Those that PEP 751 lists. A folder or a repository may have no version."""
    (found,) = lock({"name": "trl", **fields}).packages
    assert (found.source.origin, found.source.address, found.version) == (origin, address, None)


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"lock-version": "1.0", "created-by": "x"},
        {"lock-version": "2.0", "created-by": "x", "packages": []},
        {"lock-version": "1.0", "created-by": "x", "packages": [{"version": "1"}]},
        {"lock-version": "1.0", "created-by": "x", "packages": "trl"},
    ],
)
def test_what_is_no_such_lock_is_refused(raw: dict[str, Any]) -> None:
    """Fields that PEP 751 requires, and its one version."""
    assert refused(lambda: read_lock(text(""), raw)).startswith("file: it is not a valid pylock.toml: ")
