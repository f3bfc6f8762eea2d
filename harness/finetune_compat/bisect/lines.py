"""Which line: the functions on the freeze chain or the error's stack that differ between two environments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune_compat.contract.records import Frame, Observation
from finetune_compat.history.functions import Function, around, difference, functions
from finetune_compat.history.source_links import source_link


@dataclass(frozen=True, slots=True)
class Changed:
    """A function that differs between a good and a bad release."""

    file: str
    """Relative to site-packages."""
    function: str
    """For example `SFTTrainer._prepare_peft_model`."""
    good_link: str
    """The source at the good release's tag; empty if it has no such function, or if the repository is unknown."""
    bad_link: str
    diff: tuple[str, ...]
    """From the good release to the bad one."""

    @property
    def place(self) -> str:
        """The file and the function, as `compat transplant --function` takes them."""
        return f"{self.file}::{self.function}"


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment: its site-packages, and its versions by package."""

    site: Path
    versions: Mapping[str, str]

    def source(self, file: str) -> str:
        """The text of a file below site-packages; empty if it has no such file."""
        try:
            return (self.site / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    def link(self, file: str, function: Function | None) -> str:
        """The link to a function at the release's tag; empty without one."""
        version = self.versions.get(file.partition("/")[0], "")
        return source_link(file, version, function.first, function.last) if function else ""


def installed(python: Path, versions: Mapping[str, str]) -> Installed:
    """The environment of an interpreter."""
    site = next(iter(sorted(python.parent.parent.glob("lib/python3.*/site-packages"))))
    return Installed(site, versions)


def changed_functions(good: Installed, bad: Installed, seen: Observation) -> tuple[Changed, ...]:
    """The functions on the bad release's chains that differ, the smallest change first.

    Args:
        good: the environment of the good release.
        bad: the environment of the bad release.
        seen: what the bad release did.
    """
    found: dict[str, Changed] = {}
    for file, line in _places(seen):
        after = around(bad.source(file), line)
        if after is None:
            continue
        before = functions(good.source(file)).get(after.name)
        diff = difference(before, after)
        if diff:
            changed = Changed(file, after.name, good.link(file, before), bad.link(file, after), diff)
            found.setdefault(changed.place, changed)
    return tuple(sorted(found.values(), key=lambda one: len(one.diff)))


def _places(seen: Observation) -> Iterator[tuple[str, int]]:
    yield from dict.fromkeys((frame.file, frame.line) for frames in _chains(seen) for frame in frames)


def _chains(seen: Observation) -> Iterable[tuple[Frame, ...]]:
    yield from (freeze.frames for freeze in seen.freezes)
    if seen.error is not None:
        yield seen.error.frames
