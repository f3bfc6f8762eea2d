"""The hook of pre-commit refuses a lock file only if the baselines know that it breaks fine-tuning."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from finetune_compat.gate import hook
from finetune_compat.gate.command import GateRequest
from finetune_compat.gate.decision import GateExit
from finetune_compat.gate.known import read_known

KNOWN = read_known()
PACKAGES = ("trl", "transformers", "peft", "bitsandbytes", "accelerate")


def lock_of(stack: str) -> str:
    """A requirements file with the versions of a stack of the baselines."""
    (found,) = (one for one in KNOWN.stacks if one.name == f"{stack}-py311")
    return "".join(f"{name}=={found.versions[name]}\n" for name in PACKAGES)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a lock file of TRL 0.19; the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("finetune_compat.run.stack_run.chosen_gpus", lambda *_: ())
    (tmp_path / "requirements.txt").write_text(lock_of("trl0.19"))
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "a lock")):
        subprocess.run(["/usr/bin/env", "git", *arguments], check=True, capture_output=True)
    return tmp_path


def test_a_known_regression_refuses_the_commit(repository: Path) -> None:
    """trl#3926: from 0.20.0 to 0.23.0."""
    (repository / "requirements.txt").write_text(lock_of("trl0.22"))
    assert hook.main(["requirements.txt"]) == 1


def test_no_change_refuses_nothing(repository: Path) -> None:
    """Could not tell is no reason."""
    assert hook.main(["requirements.txt"]) == 0


def test_a_new_file_is_compared_with_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so."""
    (repository / "other.txt").write_text(lock_of("trl0.22"))
    assert hook.main(["other.txt"]) == 0
    assert capsys.readouterr().out == "other.txt: new, so there is nothing to compare it with\n"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([GateExit.ALLOW], 0),
        ([GateExit.HOLD], 0),
        ([GateExit.COULD_NOT_TELL], 0),
        ([GateExit.BAD_INPUT], 0),
        ([GateExit.HOLD, GateExit.BLOCK], 1),
        ([], 0),
    ],
)
def test_only_block_refuses(
    repository: Path, monkeypatch: pytest.MonkeyPatch, answers: list[GateExit], code: int
) -> None:
    """One of several files is enough. The last commit is the side in use, and nothing runs."""
    left = list(answers)
    asked: list[GateRequest] = []

    def gate_command(request: GateRequest) -> GateExit:
        (before,) = request.before
        assert Path(before).read_text() == lock_of("trl0.19")
        asked.append(request)
        return left.pop(0)

    monkeypatch.setattr(hook, "gate_command", gate_command)
    assert hook.main(["requirements.txt"] * len(answers)) == code
    assert all(request.cached and request.after == ("requirements.txt",) for request in asked)
    assert len(asked) == len(answers)
