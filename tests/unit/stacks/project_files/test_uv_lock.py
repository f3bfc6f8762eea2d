"""Entries of a uv.lock that are not plain: repositories, workspaces, forks, and extras that exclude each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import ProjectFileError
from finetune_compat.stacks.project_files.reading import read_project

LOCK = """version = 1
requires-python = ">=3.11"

[[package]]
name = "app"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "lib" }, { name = "trl" }]

[package.optional-dependencies]
old = [{ name = "peft", version = "0.16.0", source = { registry = "https://pypi.org/simple" } }]
new = [{ name = "peft", version = "0.17.1", source = { registry = "https://pypi.org/simple" } }]

[[package]]
name = "lib"
version = "1"
source = { editable = "packages/lib" }
dependencies = [{ name = "rich" }]

[[package]]
name = "peft"
version = "0.16.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "peft"
version = "0.17.1"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "rich"
version = "14.1.0"
source = { registry = "https://pypi.org/simple" }

[[package]]
name = "trl"
version = "0.23.0.dev0"
source = { git = "https://github.com/huggingface/trl?rev=main#0f9ab5d1c2b3a4958677665544332211ffeeddcc" }
"""


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
