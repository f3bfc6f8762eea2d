"""Entries of a uv.lock that are not plain: repositories, workspaces, forks, and extras that exclude each other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project
from finetune_compat.stacks.project_files.value import Project
from finetune_compat.stacks.uv_tool import bare_environ, run_uv
from packaging.requirements import Requirement
from project_builders import CASES, read, uv_lock

OF_EXTRAS = """[package.optional-dependencies]
old = [{ name = "peft", version = "0.16.0", source = { registry = "https://pypi.org/simple" } }]
new = [{ name = "peft", version = "0.17.1", source = { registry = "https://pypi.org/simple" } }]"""
LOCK = uv_lock(
    f'app 1 virtual = "."\ndependencies = [{{ name = "lib" }}, {{ name = "trl" }}]\n\n{OF_EXTRAS}',
    'lib 1 editable = "packages/lib"\ndependencies = [{ name = "rich" }]',
    "peft 0.16.0",
    "peft 0.17.1",
    "rich 14.1.0",
    'trl 0.23.0.dev0 git = "https://github.com/huggingface/trl?rev=main#0f9ab5d1c2b3a4958677665544332211ffeeddcc"',
)


def test_workspaces_extras_and_repositories(tmp_path: Path) -> None:
    """Members are the project itself; each extra brings its own release; a repository has its commit."""
    path = tmp_path / "uv.lock"
    path.write_text(LOCK)
    found = read_project(path)
    assert [(str(item), item.groups) for item in found.packages] == [
        ("peft==0.16.0", ("extra old",)),
        ("peft==0.17.1", ("extra new",)),
        ("rich==14.1.0", ()),
        ("trl @ git+https://github.com/huggingface/trl@0f9ab5d1c2b3a4958677665544332211ffeeddcc", ()),
    ]
    assert [item.what for item in found.unread] == ["app", "lib"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "rich"\nversion = "14.1.0"', 'name = "rich"\nversion = "x y"', ":30: 'x y' is not a version of rich"),
        ('[[package]]\nname = "rich"', '[[package]]\nnom = "rich"', ":30: a package has no name"),
        (
            'dependencies = [{ name = "rich" }]',
            "dependencies = 3",
            ":14: the dependencies of lib are not a list of tables",
        ),
        (
            'dependencies = [{ name = "rich" }]',
            'dependencies = [{ name = "rich", marker = "zzz" }]',
            ":14: the marker 'zzz' is not valid: Expected a marker variable or quoted string",
        ),
    ],
)
def test_a_damaged_entry_is_named_with_its_line(tmp_path: Path, old: str, new: str, problem: str) -> None:
    """One sentence, with what to do."""
    path = tmp_path / "uv.lock"
    assert old in LOCK
    path.write_text(LOCK.replace(old, new, 1))
    with pytest.raises(ProjectFileError) as raised:
        read_project(path)
    assert problem in str(raised.value)
    assert str(raised.value).endswith("\nIt was edited by hand, or a merge broke it.\nMake it again: `uv lock`.")


def test_a_real_uv_lock_has_what_uv_itself_exports() -> None:
    """With all groups, and with none: uv reads its own file right."""
    found = read("uv/uv.lock")
    every = ("--all-groups", "--all-extras")
    for options, packages in ((every, found.on("3.11")), (("--no-dev",), _always(found))):
        assert {str(item) for item in packages} == _exported(*options)
    groups = {group for item in found.packages for group in item.groups}
    assert groups == {"extra quant", "extra all", "group dev", "group test"}


def _always(found: Project) -> list[object]:
    return [item for item in found.on("3.11") if not item.groups]


def _exported(*options: str) -> set[str]:
    """The pins that uv exports from the lock, of those that hold on Linux with Python 3.11."""
    project = ("--project", str(CASES / "uv"), "--frozen", "--offline", "--python", sys.executable)
    words = ("--no-hashes", "--no-annotate", "--no-header", "--no-emit-project", *options)
    answer = run_uv(("export", *project, *words), environ=bare_environ())
    assert answer.ok, answer.complaint
    pins = [Requirement(line) for line in answer.output.splitlines() if "==" in line]
    linux = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    python = {"python_version": "3.11", "python_full_version": "3.11.9"}
    return {f"{pin.name}{pin.specifier}" for pin in pins if not pin.marker or pin.marker.evaluate({**linux, **python})}
