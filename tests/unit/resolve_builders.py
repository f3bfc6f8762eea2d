"""Locks of sides for tests. uv is a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from finetune_compat.contract.records import DeviceKind
from finetune_compat.gate.inputs import read_side, read_target
from finetune_compat.gate.resolve import resolve
from finetune_compat.gate.resolved import Resolved
from finetune_compat.stacks import locks
from finetune_compat.stacks.index import Release
from finetune_compat.stacks.locks import Unsolvable
from finetune_compat.stacks.matrix import read_matrix
from finetune_compat.stacks.uv_tool import Answer
from packaging.version import Version

MATRIX = read_matrix()
TRL = [Release(Version(text), date(2025, 9, 1)) for text in ("0.22.2", "0.23.1", "1.16.0", "1.17.0rc1")]
HASHES = " \\\n    --hash=sha256:" + "0" * 64 + "\n"
BODY = f"trl==0.22.1 \\\n    --hash=sha256:{'0' * 64}\n"


def unsolvable(cause: str) -> Answer:
    """uv's output where there is no solution."""
    return Answer(1, "", f"error: No solution found when resolving dependencies\n  cause: Because {cause}")


@dataclass
class Uv:
    """A resolver that locks what it is asked for, as pins."""

    refuse: Callable[[Sequence[str]], str | None] = lambda _: None
    """Why there is no solution for these requirements; None if there is one."""
    asked: list[list[str]] = field(default_factory=list)
    preferred: list[str] = field(default_factory=list)
    brings: dict[str, str] = field(default_factory=dict)
    """The pin of another package that a package needs, unless it is excluded."""

    def __call__(self, arguments: Sequence[str], **how: Any) -> Answer:
        """One call."""
        wanted = how["stdin"].split("\n")
        self.asked.append(wanted)
        cause = self.refuse(wanted)
        if cause is not None:
            return unsolvable(cause)
        pins = {line.partition("[")[0].partition("=")[0].partition("<")[0].partition(">")[0]: line for line in wanted}
        excluded = Path(arguments[arguments.index("--excludes") + 1]).read_text().split()
        for pin in (pin for name, pin in self.brings.items() if name in pins):
            if pin.partition("=")[0] not in excluded:
                pins[pin.partition("=")[0]] = pin
        kept = {}
        if "--output-file" in arguments:
            made = Path(arguments[arguments.index("--output-file") + 1])
            self.preferred = made.read_text().splitlines()
            kept = {line.partition("==")[0]: line for line in self.preferred}
        lines = {name: pin if "==" in pin else kept.get(name, f"{name}==1.0") for name, pin in pins.items()}
        body = "".join(f"{line}{HASHES}" for name, line in sorted(lines.items()) if name != "torch")
        if kept:
            made.write_text(body)
        return Answer(0, body, "")


def resolved(text: str, folder: Path, *more: str) -> tuple[Resolved, ...]:
    """A project with this requirements file, and its upgrades."""
    file = folder / "requirements.txt"
    file.write_text(text)
    side = read_side([str(file)], "--from", MATRIX)
    context = (MATRIX, DeviceKind.CPU, None, lambda _: None)
    before = resolve(side, "before", *context)
    return (
        before,
        *(resolve(read_target([word], "--to", side, MATRIX), word, *context, before) for word in more),
    )


def versions(of: Resolved) -> dict[str, str]:
    """The locked versions."""
    assert not isinstance(of.lock, Unsolvable)
    return dict(of.lock.requirements)


def resolved_alone(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Resolved, list[list[str]]]:
    """A side outside of any project, and the calls of uv."""
    calls: list[list[str]] = []

    def run_uv(arguments: list[str], **how: Any) -> Answer:
        calls.append([*arguments, *how["stdin"].split("\n")])
        return Answer(0, BODY, "")

    monkeypatch.setattr(locks, "run_uv", run_uv)
    side = read_side([text], "--to", MATRIX)
    return resolve(side, text, MATRIX, DeviceKind.CPU, None, lambda _: None), calls
