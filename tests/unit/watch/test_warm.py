"""Scripts that are forked from a process: they start as fresh ones do. This interpreter, without torch, stands in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from finetune_compat.contract.errors import StackFailed
from finetune_compat.contract.script import REQUEST
from finetune_compat.watch import warm as watch_warm
from finetune_compat.watch.host import environ_of
from finetune_compat.watch.warm import Forked, Warm, may_fork

SCRIPT = """\
import json, os, random, sys
json.dump({"name": __name__, "file": __file__, "argv": sys.argv, "here": os.getcwd(), "mine": os.environ.get("MINE"),
           "path": sys.path[0], "parent": os.getppid(), "random": random.random()}, open("said.json", "w"))
"""


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with Warm(Path(sys.executable), environ_of(Path("none")), "here") as made:
        yield made


def begun(warm: Warm, folder: Path, text: str, *arguments: str, **variables: str) -> Forked:
    """A script in `folder` that runs."""
    script, request = folder / "script.py", folder / "request"
    script.write_text(text)
    fields = {
        "folder": str(folder),
        "flow": "script",
        "stack": "here",
        "steps": 2,
        "lock_sha256": "",
        "torch_wanted": "",
    }
    request.write_text(json.dumps(fields))
    environ = {**os.environ, REQUEST: str(request), **variables}
    return warm.start([sys.executable, str(script), *arguments], environ, Path.cwd())


def start(warm: Warm, folder: Path, text: str, *arguments: str, **variables: str) -> int:
    """The exit status of a script in `folder`."""
    return begun(warm, folder, text, *arguments, **variables).wait(60)


def test_a_forked_script_starts_like_a_fresh_one(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, directory, environment and path are its own, and random numbers differ."""
    monkeypatch.chdir(tmp_path)
    said = []
    for _ in range(2):
        assert start(warm, tmp_path, SCRIPT, "--lr", "1", MINE="yes") == 0
        said.append(json.loads((tmp_path / "said.json").read_text()))
    script = str(tmp_path / "script.py")
    first = {name: said[0][name] for name in ("name", "file", "argv", "here", "mine", "path")}
    assert first == {
        "name": "__main__",
        "file": script,
        "argv": [script, "--lr", "1"],
        "here": str(tmp_path),
        "mine": "yes",
        "path": str(tmp_path),
    }
    assert said[0]["random"] != said[1]["random"]
    assert said[0]["parent"] == said[1]["parent"] != os.getpid()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("raise ValueError", 1),
        ("import os; os.abort()", -6),
        ("import atexit; atexit.register(open, 'end', 'w')", 0),
    ],
)
def test_one_script_ends_as_it_does_and_the_next_one_runs(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: int
) -> None:
    """A crash ends the fork alone. Functions registered for the end are called."""
    monkeypatch.chdir(tmp_path)
    assert start(warm, tmp_path, text) == status
    assert (tmp_path / "end").exists() is ("atexit" in text)
    assert start(warm, tmp_path, "print()") == 0


def test_a_script_can_be_waited_for_and_stopped(warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forked = begun(warm, tmp_path, "import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        forked.wait(0.1)
    assert forked.poll() is None
    os.kill(forked.pid, 9)
    assert forked.wait(60) == -9
    assert forked.poll() == -9


def test_an_interpreter_that_cannot_start_is_one_error(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no torch >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(StackFailed, match="no torch"):
        Warm(broken, {}, "here")


def test_an_import_that_takes_too_long_is_another_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is busy; nothing is wrong with the libraries."""
    monkeypatch.setattr(watch_warm, "_IMPORT_S", 0.5)
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    with pytest.raises(StackFailed, match=r"not in 0\.5 s"):
        Warm(slow, dict(os.environ), "here")


@pytest.mark.parametrize(
    ("name", "text", "forks"),
    [
        ("train.py", "import torch", True),
        ("train.ipynb", "{}", True),
        ("train.py", "import os\nos.environ['HF_HUB_OFFLINE'] = '1'", False),
        ("train.ipynb", "%env A=1", False),
        ("torchrun", "", False),
    ],
)
def test_a_script_that_changes_its_environment_is_not_forked(
    tmp_path: Path, name: str, text: str, *, forks: bool
) -> None:
    """Libraries read some variables when they are imported."""
    (tmp_path / name).write_text(text)
    assert may_fork([str(tmp_path / name)]) is forks
