"""`compat refresh` on a matrix of the test's own: what it writes, prints and answers. The index is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest
from finetune_compat.contract.errors import ExitCode, RegistryUnreachable
from finetune_compat.machine.places import Places
from finetune_compat.stacks import index, locks, refresh
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Lock, read_lock
from finetune_compat.stacks.matrix import Matrix, read_matrix
from finetune_compat.stacks.uv_tool import Answer
from packaging.version import Version
from stack_builders import HASH

TODAY = date(2026, 11, 30)
FILE = """\
[torch]
version = "2.13.0"
platform = ["triton"]

[resolve]
floor = 2025-07-29
packages = ["trl", "peft"]
tools = ["pytest"]
platform = "x86_64-manylinux_2_28"
pythons = ["3.11"]

[refresh]
cool_down_days = 7

[[unpinned]]
name = "latest"
as_of = 2026-11-01
why = "what pip installs"

[[axes]]
package = "trl"
since = "0.22"
stacks = [
  { pin = "0.22.2", released = 2025-09-03 },
]
"""


@pytest.fixture
def places(in_places: Callable[..., Places], tmp_path: Path) -> Places:
    """A matrix of two stacks, without locks."""
    (tmp_path / "stacks.toml").write_text(FILE)
    (tmp_path / "locks").mkdir()
    return in_places(matrices=tmp_path)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The versions that the resolver gives to unpinned stacks."""
    chosen = {"trl": "0.23.0", "peft": "0.21.2"}

    def run(arguments: Sequence[str], *, environ: object, stdin: str) -> Answer:
        pins = dict(line.split("==") for line in stdin.splitlines() if "==" in line and not line.startswith("torch"))
        lines = [f"{name}=={version} \\\n    --hash=sha256:{HASH}\n" for name, version in (chosen | pins).items()]
        return Answer(0, "".join(lines), "")

    monkeypatch.setattr(locks, "run_uv", run)
    return chosen


@pytest.fixture(autouse=True)
def _index(monkeypatch: pytest.MonkeyPatch) -> None:
    there = tuple(Release(Version(version), date(2026, 10, 1)) for version in ("0.21.2", "0.22.2", "0.23.0"))
    monkeypatch.setattr(index, "releases", lambda _: there)
    monkeypatch.setattr(index, "yanked", lambda _: {})


@pytest.fixture(autouse=True)
def floor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The source of the installed TRL asks for a PEFT that no index has."""
    site = tmp_path / "site"
    (site / "trl").mkdir(parents=True)
    (site / "trl" / "utils.py").write_text('MIN_PEFT_VERSION = "0.99.0"\n')

    class Installed:
        def __init__(self, matrix: Matrix, name: str) -> None:
            assert matrix.stack(name)
            self.site = site

    monkeypatch.setattr(refresh, "stack_python", Installed)
    return site


def test_new_rows_are_written_and_locked(places: Places, resolved: dict[str, str]) -> None:
    """The row, its lock, the day of the unpinned stack, its lock, and what moved in it."""
    assert resolved
    lines: list[str] = []
    assert refresh.refresh(TODAY, lines.append, check=False) is ExitCode.HEALTHY
    matrix = read_matrix()
    assert [stack.name for stack in matrix.stacks] == ["trl0.22", "trl0.23", "latest"]
    assert matrix.stack("latest").as_of == TODAY
    assert isinstance(read_lock(places.locks / "trl0.23-py311.txt"), Lock)
    assert "  trl 0.23.0: new row, uploaded 2026-10-01" in lines
    assert "latest: trl none -> 0.23.0" in lines
    assert lines[-1] == (
        "latest: trl 0.23.0 asks for peft >= 0.99.0 (trl/utils.py:1); locked is 0.21.2, "
        "and the newest release is 0.23.0"
    )


def test_only_what_moved_in_an_unpinned_stack_is_printed(places: Places, resolved: dict[str, str]) -> None:
    """The second day TRL is the same and PEFT is newer."""
    assert places
    refresh.refresh(TODAY, lambda _: None, check=False)
    resolved["peft"] = "0.22.0"
    lines: list[str] = []
    refresh.refresh(date(2026, 12, 1), lines.append, check=False)
    assert [line for line in lines if "->" in line] == ["latest: peft 0.21.2 -> 0.22.0"]


@pytest.mark.usefixtures("resolved")
def test_check_writes_nothing_and_fails_where_a_row_is_missing(places: Places) -> None:
    """A nightly job learns from the exit code that the matrix is behind."""
    lines: list[str] = []
    assert refresh.refresh(TODAY, lines.append, check=True) is ExitCode.UNHEALTHY
    assert (places.stacks.read_text(), list(places.locks.iterdir())) == (FILE, [])
    assert lines[-1] == "1 row to add or move"


@pytest.mark.usefixtures("resolved")
def test_check_is_healthy_where_nothing_is_missing(places: Places) -> None:
    """Right after a refresh."""
    assert places
    refresh.refresh(TODAY, lambda _: None, check=False)
    assert refresh.refresh(TODAY, lambda _: None, check=True) is ExitCode.HEALTHY


def test_without_an_index_nothing_is_written(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine failed: nothing is known about releases."""

    def unreachable(_: str) -> None:
        raise RegistryUnreachable("the package index does not answer")

    monkeypatch.setattr(index, "releases", unreachable)
    with pytest.raises(RegistryUnreachable):
        refresh.refresh(TODAY, lambda _: None, check=False)
    assert places.stacks.read_text() == FILE
