"""The workflows: which lock files the gate of a pull request compares, and what the nightly run contains."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from finetune_compat.machine.places import places

FAULTS = places().faults

ROOT = Path(__file__).parent.parent.parent
GATE = ROOT / ".github" / "workflows" / "gate.yml"

NIGHTLY, DOCS = GATE.with_name("nightly.yml"), GATE.with_name("docs.yml")

SHELL = ("bash", "-eo", "pipefail", "-c")
"""Options with which GitHub runs a step."""


def step(name: str) -> str:
    """Return the script of a step."""
    found = re.search(rf"- name: {name}\n.*?run: \|\n(.*?)(?=\n {{0,6}}\S)", GATE.read_text(), re.DOTALL)
    assert found is not None
    return textwrap.dedent(found[1])


def git(*arguments: str, at: Path) -> str:
    """Return git's output."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    command = ["git", *who, *arguments]
    return subprocess.run(command, cwd=at, capture_output=True, text=True, check=True).stdout.strip()


Step = Callable[..., tuple[int, str, dict[str, str]]]


@pytest.fixture
def both_locks(tmp_path: Path) -> Step:
    """Run the step on a base commit with these files and a head commit with those changes: status, output, outputs."""

    def run(base: dict[str, str], head: dict[str, str], lock: str = "") -> tuple[int, str, dict[str, str]]:
        root, temporary, outputs = (tmp_path / name for name in ("root", "temporary", "outputs"))
        for folder in (root, temporary):
            folder.mkdir()
        git("init", "--quiet", at=root)
        for files in (base, head):
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text)
            git("add", "--all", at=root)
            git("commit", "--quiet", "--allow-empty", "--message", "a", at=root)
        given = {"BASE": git("rev-parse", "HEAD^", at=root), "LOCK": lock, "RUNNER_TEMP": str(temporary)}
        done = subprocess.run(
            [*SHELL, step("Both locks")],
            cwd=root,
            env={**os.environ, **given, "GITHUB_OUTPUT": str(outputs)},
            capture_output=True,
            text=True,
            check=False,
        )
        told = outputs.read_text().splitlines() if outputs.exists() else []
        found = {key: Path(path).read_text() for key, _, path in (line.partition("=") for line in told)}
        return done.returncode, done.stdout.replace(str(tmp_path), ""), found

    return run


def test_the_one_that_changed_is_compared(both_locks: Step) -> None:
    """An unchanged lock file is not compared: it would equal itself and be allowed."""
    base = {"uv.lock": "u", "requirements.txt": "-r more.txt", "more.txt": "old"}
    _, _, found = both_locks(base, {"requirements.txt": "-r more.txt\ntrl"})
    assert found == {"before": "-r more.txt", "after": "-r more.txt\ntrl"}


def test_includes_have_the_content_of_their_commit(both_locks: Step, tmp_path: Path) -> None:
    """A requirements file needs its includes."""
    both_locks({"requirements.txt": "-r more.txt", "more.txt": "old"}, {"requirements.txt": "trl", "more.txt": "new"})
    assert (tmp_path / "temporary" / "before" / "more.txt").read_text() == "old"


PATHS = "uv.lock, pylock.toml, requirements*.txt, requirements/**, constraints*.txt"


def test_a_pull_request_that_changes_any_of_them_is_gated() -> None:
    """The trigger's patterns agree with the step below."""
    assert f"    paths: [{PATHS}]\n" in GATE.read_text()


@pytest.mark.parametrize(
    "include",
    [
        "requirements-gpu.txt",
        "requirements/base.txt",
        "requirements/gpu/base.txt",
        "constraints.txt",
        "constraints-1.txt",
    ],
)
def test_a_change_of_an_include_alone_is_one_of_the_file(both_locks: Step, tmp_path: Path, include: str) -> None:
    """Both sides are compared with their own includes, before and after."""
    base = {"uv.lock": "u", "requirements.txt": f"-r {include}", include: "old"}
    status, _, found = both_locks(base, {include: "new"})
    assert (status, found) == (0, dict.fromkeys(("before", "after"), f"-r {include}"))
    folders = (tmp_path / "temporary" / "before", tmp_path / "root")
    assert [(folder / include).read_text() for folder in folders] == ["old", "new"]


@pytest.mark.parametrize("other", ["docs/requirements.txt", "docs/constraints.txt", "requirements-gpu.toml"])
def test_a_file_in_a_subfolder_is_not_compared(both_locks: Step, other: str) -> None:
    """A path pattern does not match in subfolders, and neither does the step."""
    assert both_locks({"requirements.txt": "r", other: "old"}, {other: "new"})[:2] == (
        1,
        "::error::no lock file changed\n",
    )


@pytest.mark.parametrize("lock", ["uv.lock", "pylock.toml"])
def test_a_lock_goes_before_requirements(both_locks: Step, lock: str) -> None:
    """A lock pins what the requirements ask for."""
    base = {lock: "a", "requirements.txt": "r", "constraints.txt": "c"}
    assert both_locks(base, {lock: "b", "requirements.txt": "s", "constraints.txt": "d"})[2] == {
        "before": "a",
        "after": "b",
    }


def test_a_named_file_is_compared(both_locks: Step) -> None:
    """A named file is compared, whatever else changed."""
    base = {"uv.lock": "u", "locks.txt": "a"}
    assert both_locks(base, {"uv.lock": "v", "locks.txt": "b"}, "locks.txt")[2] == {"before": "a", "after": "b"}


def test_a_misspelt_name_selects_no_other_file(both_locks: Step) -> None:
    """Otherwise another lock would be gated instead."""
    status, said, found = both_locks({"uv.lock": "u"}, {"uv.lock": "v"}, "uv.look")
    assert (status, found) == (1, {})
    assert said == "::error::/temporary/before/uv.look is not there: nothing to compare\n"


def test_a_new_lock_is_reported(both_locks: Step) -> None:
    """There is nothing to compare it with."""
    status, said, _ = both_locks({"a": "a"}, {"uv.lock": "v"})
    assert (status, said) == (1, "::error::/temporary/before/uv.lock is not there: nothing to compare\n")


def test_without_a_change_there_is_no_gate(both_locks: Step) -> None:
    """No file is compared with itself."""
    assert both_locks({"uv.lock": "u"}, {"a": "a"})[:2] == (1, "::error::no lock file changed\n")


def test_every_night_plants_the_faults_on_the_stacks_whose_records_are_committed() -> None:
    """No other stack is in the nightly run: a record that is never measured again becomes stale."""
    text = NIGHTLY.read_text(encoding="utf-8")
    found = re.search(r"\n  faults:\n.*?trl: (\[.*?\]).*?run: (nox.*?)\n", text, re.DOTALL)
    assert found is not None
    nightly = {f"trl{label}-py311" for label in json.loads(found[1])}
    assert nightly == {path.stem for path in FAULTS.glob("*.json")}
    assert found[2] == "nox -s \"compat-3.11(trl='$TRL')\" -- --faults --device cpu"


def test_every_night_runs_the_cells_of_the_plan() -> None:
    """The jobs run the cells of their part, on the device and tier that the plan was made for."""
    text = NIGHTLY.read_text(encoding="utf-8")
    assert 'compat shards --jobs "$JOBS" --device cuda --tier deep --out plan --json' in text
    assert "CELLS: plan/${{ matrix.cells }}\n" in text
    assert '-- --cells "$CELLS" --device cuda --tier deep' in text
    assert "--plan parts/plan/plan.json" in text


def test_every_relative_link_of_the_site_resolves(tmp_path: Path) -> None:
    """The site has the paths of the repository. Its first page is replaced here, because it has no relative links."""
    checkout, commands = tmp_path / "checkout", tmp_path / "bin"
    for folder in ("docs", "reports", "harness/finetune_compat/gate/report"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    for name in ("README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, checkout)
    commands.mkdir()
    (commands / "compat").write_text('#!/bin/sh\necho "$@"\n: > site/index.html\n')
    (commands / "compat").chmod(0o755)
    script = re.search(r"- id: site\n *run: \|\n(.*?)(?=\n {6}- )", DOCS.read_text(), re.DOTALL)
    assert script is not None
    path = os.pathsep.join((str(commands), os.environ["PATH"]))
    subprocess.run([*SHELL, textwrap.dedent(script[1])], cwd=checkout, env={"PATH": path}, check=True)
    site = checkout / "site"
    pages = sorted(site.rglob("*.md"))
    links = [
        (page, link.partition("#")[0])
        for page in pages
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8")))
        if not link.startswith(("https://", "#"))
    ]
    assert {page.relative_to(site).as_posix() for page in pages} >= {"docs/evidence.md", "reports/README.md"}
    assert [(page.name, link) for page, link in links if not (page.parent / link).resolve().is_relative_to(site)] == []
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
