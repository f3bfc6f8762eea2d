"""The tracked files that a bundle contains."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_workshop import git, write
from finetune_compat.bundle.checkout import tracked
from finetune_compat.contract.errors import CompatError, ExitCode


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with two locks, tests, reports and a file that git does not track."""
    for name in (
        "harness/a b.py",
        "matrices/stacks.toml",
        "matrices/locks/one.txt",
        "matrices/locks/two.txt",
        "reports/baseline/x.jsonl",
        "tests/golden/x.txt",
        "tests/unit/test_x.py",
        ".gitignore",
    ):
        write(tmp_path / name, "as committed")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        git(tmp_path, *arguments)
    write(tmp_path / "notes.txt", "not tracked")
    return tmp_path


def test_a_bundle_has_what_a_run_needs_and_the_locks_of_its_stacks(checkout: Path) -> None:
    """Reports and golden files are left out, and so is what git does not track or hides itself."""
    found = tracked({"one.txt"}, checkout)
    assert found.root == checkout
    assert set(found.files) == {
        "harness/a b.py",
        "matrices/stacks.toml",
        "matrices/locks/one.txt",
        "tests/unit/test_x.py",
    }
    assert found.changed == ()
    assert found.commit == git(checkout, "rev-parse", "HEAD").strip()


def test_changes_since_the_commit_are_named(checkout: Path) -> None:
    """A file that is gone is no file of the bundle."""
    write(checkout / "harness" / "a b.py", "edited")
    (checkout / "matrices" / "stacks.toml").unlink()
    found = tracked(set(), checkout)
    assert set(found.changed) == {"harness/a b.py", "matrices/stacks.toml"}
    assert set(found.files) == {"harness/a b.py", "tests/unit/test_x.py"}


def test_a_folder_inside_another_checkout_is_none(checkout: Path) -> None:
    """git itself would answer for the outer one."""
    with pytest.raises(CompatError) as raised:
        tracked(set(), checkout / "harness")
    assert raised.value.exit_code is ExitCode.BAD_INPUT
    assert str(raised.value).startswith(f"{checkout}/harness: not a git checkout: no git, or no .git\n")
