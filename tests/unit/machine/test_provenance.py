"""The commit that a committed record names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from finetune_compat.machine.provenance import commit, short


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one source file and one report."""
    for name in ("code.py", "reports/page.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1\n")
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "a")):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    """The hash is complete."""
    assert re.fullmatch(r"[0-9a-f]{40}", commit(checkout))


def test_changed_code_is_marked(checkout: Path) -> None:
    """Its commit is not what ran."""
    clean = commit(checkout)
    (checkout / "code.py").write_text("2\n")
    assert commit(checkout) == f"{clean}+"


def test_new_code_is_marked(checkout: Path) -> None:
    """It was used, and no commit has it."""
    clean = commit(checkout)
    (checkout / "new.py").write_text("1\n")
    assert commit(checkout) == f"{clean}+"


@pytest.mark.parametrize(
    ("known", "told"), [("5f" * 20, "5f" * 6), (f"{'5f' * 20}+", f"{'5f' * 6}+"), ("unknown", "unknown")]
)
def test_a_page_shows_twelve_digits_and_the_mark(known: str, told: str) -> None:
    """Shorter hashes are unchanged."""
    assert short(known) == told
    assert short(told) == told


def test_a_changed_report_is_not_marked(checkout: Path) -> None:
    """The record itself has just written the report."""
    clean = commit(checkout)
    (checkout / "reports" / "page.md").write_text("2\n")
    assert commit(checkout) == clean


def test_outside_a_checkout_nothing_is_known(tmp_path: Path) -> None:
    """An example is an unpacked archive."""
    assert commit(tmp_path) == "unknown"
