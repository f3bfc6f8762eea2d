"""Projects and statements for tests."""

from __future__ import annotations

from pathlib import Path

from finetune_compat.affected.notes import Level, Note, Rule
from finetune_compat.affected.packages import Asked, Project
from packaging.specifiers import SpecifierSet

LOCKED = {"trl": "==0.22.2", "transformers": "==4.56.0", "peft": "==0.17.1", "bitsandbytes": "==0.47.0"}
"""The versions of the flagship."""


def project(*, complete: bool = True, **packages: str) -> Project:
    """A project that asks for these ranges."""
    asked = {
        name: Asked(name, SpecifierSet(text), "uv.lock", line) for line, (name, text) in enumerate(packages.items(), 1)
    }
    return Project(Path("uv.lock"), asked, complete)


def locked(**others: str) -> Project:
    """A lock file with the versions of the flagship, and others in their place."""
    return project(**{**LOCKED, **others})


RULE = Rule(id="trl#3926", title="a, b: c", help="Do.", link="https://example.org/")
BARE = Rule(id="pad-is-end", title="t", help="h")


def note(**fields: object) -> Note:
    """A statement with these fields."""
    base = {"rule": RULE, "level": Level.ERROR, "message": "m", "file": "a b/train.py", "line": 3}
    return Note(**{**base, **fields})  # type: ignore[arg-type]
