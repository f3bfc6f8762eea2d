"""Which commit a committed record says it was made at."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from finetune_compat.machine.provenance import commit, short


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one file of code and one report."""
    for name in ("code.py", "reports/page.md"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1\n")
    for arguments in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "a")):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_checkout_is_its_commit(checkout: Path) -> None:
    """In full."""
    assert re.fullmatch(r"[0-9a-f]{40}", commit(checkout))


def test_code_that_differs_is_marked(checkout: Path) -> None:
    """Nobody can check it out again."""
    clean = commit(checkout)
    (checkout / "code.py").write_text("2\n")
    assert commit(checkout) == f"{clean}+"


def test_code_that_is_new_is_marked(checkout: Path) -> None:
    """It takes part, and no commit has it."""
    clean = commit(checkout)
    (checkout / "new.py").write_text("1\n")
    assert commit(checkout) == f"{clean}+"


@pytest.mark.parametrize(
    ("known", "told"), [("5f" * 20, "5f" * 6), (f"{'5f' * 20}+", f"{'5f' * 6}+"), ("unknown", "unknown")]
)
def test_a_page_shows_twelve_digits_and_the_mark(known: str, told: str) -> None:
    """What was short before stays as it is."""
    assert short(known) == told
    assert short(told) == told


def test_a_report_that_differs_is_not(checkout: Path) -> None:
    """It is what the record before has just written."""
    clean = commit(checkout)
    (checkout / "reports" / "page.md").write_text("2\n")
    assert commit(checkout) == clean


def test_outside_a_checkout_nothing_is_known(tmp_path: Path) -> None:
    """As in an archive."""
    assert commit(tmp_path) == "unknown"
