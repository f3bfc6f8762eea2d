"""Packages that an environment lacks: uv is asked what it would install, and only that goes into a directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from finetune_compat.contract.errors import InstallError
from finetune_compat.stacks import added
from finetune_compat.stacks.uv_tool import Answer

PLAN = "Resolved 3 packages in 1ms\nWould install 2 packages\n + antlr4==4.9.3\n + omegaconf==2.3.0\n"


def asked(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> list[tuple[str, ...]]:
    """Answer calls of uv in this order; return the calls."""
    calls: list[tuple[str, ...]] = []
    left = iter(answers)

    def run(arguments: tuple[str, ...], **_: object) -> Answer:
        calls.append(tuple(arguments))
        return next(left)

    monkeypatch.setattr(added, "run_uv", run)
    return calls


def test_only_what_is_missing_is_installed_and_not_into_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch, Answer(0, "", PLAN), Answer(0, "", ""))
    wanted = ("antlr4==4.9.3", "omegaconf==2.3.0")
    assert added.add_packages(Path("/env/python"), ["omegaconf"], Path("/with")) == wanted
    assert calls[0][-2:] == ("--dry-run", "omegaconf")
    assert calls[1][-5:] == ("--no-deps", "--target", "/with", *wanted)


def test_what_is_there_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = asked(monkeypatch, Answer(0, "", "Audited 1 package in 1ms\nWould make no changes\n"))
    assert added.add_packages(Path("/env/python"), ["numpy"], Path("/with")) == ()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (Answer(0, "", f"{PLAN} - trl==1.16.0\n + trl==0.9.6\n"), "old would replace trl==1.16.0"),
        (Answer(1, "", "error: No solution found when resolving dependencies"), "No solution found when resolving"),
    ],
)
def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, answer: Answer, what: str) -> None:
    """Another stack would be measured."""
    asked(monkeypatch, answer)
    with pytest.raises(InstallError, match=what):
        added.add_packages(Path("/env/python"), ["old"], Path("/with"))
