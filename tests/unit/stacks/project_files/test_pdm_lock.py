"""pdm.lock, version 4."""

from __future__ import annotations

from typing import Any

import pytest
from finetune_compat.stacks.project_files.graph import NOWHERE
from finetune_compat.stacks.project_files.pdm_lock import read
from finetune_compat.stacks.project_files.value import Kind, Project
from project_builders import refused, shown, text

METADATA: dict[str, Any] = {"lock_version": "4.5.0", "groups": ["default", "test"]}


def lock(*packages: dict[str, Any], **metadata: Any) -> Project:
    """A lock of these packages."""
    lines = '[metadata]\nlock_version = "4.5.0"\n' + "[[package]]\n" * len(packages)
    return read(text(lines), {"metadata": {**METADATA, **metadata}, "package": list(packages)})


TRL: dict[str, Any] = {"name": "TRL", "version": "0.22.2", "groups": ["default"]}


@pytest.mark.parametrize(
    ("changed", "package"),
    [
        ({}, "trl==0.22.2 on 3"),
        ({"groups": []}, "trl==0.22.2 on 3"),
        ({"groups": ["default", "test"]}, "trl==0.22.2 on 3"),
        ({"groups": ["quant", "test"]}, "trl==0.22.2 on 3 in group quant, group test"),
        ({"marker": "sys_platform == 'win32'"}, 'trl==0.22.2 on 3 if sys_platform == "win32"'),
        ({"files": [{"file": "trl-0.22.2-cp311-cp311-win32.whl"}]}, f"trl==0.22.2 on 3 if {NOWHERE}"),
        ({"git": "https://x.org/trl", "ref": "v1", "revision": "ab12"}, "trl @ git+https://x.org/trl@ab12 on 3"),
        ({"path": "./trl"}, "trl @ ./trl on 3"),
    ],
)
def test_a_package(changed: dict[str, Any], package: str) -> None:
    """The group `default` is always installed."""
    assert shown(lock({**TRL, **changed})) == [package]


def test_an_entry_for_extras_repeats_the_package() -> None:
    """It has the dependencies that the extras bring, and the package has an entry without them."""
    assert shown(lock(TRL, {**TRL, "extras": ["peft"]})) == ["trl==0.22.2 on 3"]


def test_the_python_is_that_of_the_first_target() -> None:
    """Older locks have no targets."""
    assert lock(targets=[{"requires_python": ">=3.11"}]).requires_python == ">=3.11"
    assert [lock().requires_python, lock(targets=[{}]).requires_python] == ["", ""]
    assert lock().kind is Kind.PDM_LOCK


@pytest.mark.parametrize("version", ["3.1", "5.0", 4])
def test_another_version_is_refused(version: object) -> None:
    """Its entries may mean something else."""
    assert refused(lambda: lock(lock_version=version)) == (
        f"file:2: its format has version '{version}', and version 4 is read"
    )


def test_what_is_no_lock_is_refused() -> None:
    """Without metadata there is no version."""
    assert refused(lambda: read(text(""), {})) == "file: its format has version 'none', and version 4 is read"
    assert refused(lambda: lock({"version": "1"})) == "file:3: None is not the name of a package"
    assert refused(lambda: lock({**TRL, "groups": "test"})) == "file:3: groups is 'test' and not a list of texts"
