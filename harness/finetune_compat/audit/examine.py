"""Every script of a project along every path, and what its findings come to, file by file."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as File

from finetune_compat.audit.findings import Finding, Releases, Status
from finetune_compat.audit.interpreter import Path
from finetune_compat.audit.library import Knowledge
from finetune_compat.audit.paths import MOST_STEPS, Choice, Plan, Walked, walk
from finetune_compat.audit.patterns_code import (
    argument_findings,
    evaluation_findings,
    import_findings,
    mask_findings,
)
from finetune_compat.audit.patterns_training import attention_findings, training_findings
from finetune_compat.audit.signatures import Signatures
from finetune_compat.audit.sources import Source, Unread, find_sources, read_source

_GUARDS = re.compile(r"version|signature|hasattr|fields|__annotations__", re.IGNORECASE)
"""Conditions by which code adapts itself to releases."""

_TRAINING = re.compile(
    r"Trainer|Config|Arguments|from_pretrained|peft|lora|adapter|requires_grad|pad_token|train", re.IGNORECASE
)
"""Words without which a function can have no pattern."""

FEW_PATHS = 12
"""Paths of a function that nothing calls."""

Key = tuple[str, str, int]
"""Pattern, file and line."""


@dataclass(frozen=True)
class Examined:
    """What was found in a project."""

    sources: Sequence[Source]
    unread: Sequence[Unread]
    findings: Sequence[Finding]
    trains: frozenset[str]
    """The files in which a training begins."""

    def of(self, file: str) -> list[Finding]:
        """The findings of a file: those at a place in it, then those that it is part of."""
        own = [one for one in self.findings if one.place.source.shown == file]
        others = [
            one for one in self.findings if one not in own and any(part.source.shown == file for part in one.parts)
        ]
        return own + others


@dataclass
class Project:
    """The sources of a project, found by the names of modules."""

    root: File
    known: dict[File, Source | None] = field(default_factory=dict)
    found: dict[tuple[str, File, int], Source | None] = field(default_factory=dict)
    """By name of the module, importing directory and level: every path asks again."""

    def find(self, name: str, importing: Source, level: int) -> Source | None:
        """The source of a module; None if it is not one of the project."""
        key = (name, importing.path.parent, level)
        if key not in self.found:
            self.found[key] = self._find(*key)
        return self.found[key]

    def _find(self, name: str, here: File, level: int) -> Source | None:
        if level:
            base = here
            for _ in range(level - 1):
                base = base.parent
            return self._at(base, name)
        roots = (
            here,
            self.root,
            self.root / "src",
            *map(File, filter(None, os.environ.get("PYTHONPATH", "").split(":"))),
        )
        return next((found for root in dict.fromkeys(roots) if (found := self._at(root, name)) is not None), None)

    def _at(self, folder: File, name: str) -> Source | None:
        path = folder.joinpath(*name.split(".")) if name else folder
        return self._read(path.with_name(f"{path.name}.py")) or self._read(path / "__init__.py")

    def _read(self, file: File) -> Source | None:
        file = file.absolute()
        if file not in self.known:
            read = read_source(file, self.root) if file.is_file() else None
            self.known[file] = read if isinstance(read, Source) else None
        return self.known[file]


def examine(path: File, releases: Releases, signatures: Signatures, rule: str = "") -> Examined:
    """What is wrong in the scripts and notebooks at `path` with these releases.

    Args:
        path: a script, a notebook or a directory.
        releases: the versions.
        signatures: what releases accept.
        rule: the attention for training that the project wants; empty if it has no rule.

    Raises:
        CompatError: there is no script at `path`.
    """
    sources, unread = find_sources(path)
    root = (path if path.is_dir() else path.parent).absolute()
    project = Project(root, {source.path.absolute(): source for source in sources})

    def make(plan: Plan) -> Path:
        return Path(plan, Knowledge(signatures, releases.versions, root), project.find, releases.versions)

    walks: list[list[Walked]] = []
    entered: set[ast.AST] = set()
    for source in sources:
        walks.append(list(walk(source, make)))
        for walked in walks[-1]:
            entered |= walked.path.entered
    for source in sources:
        walks += _functions(source, entered, make)
    found = [merged(each, lambda path: _of_path(path, releases, signatures, rule)) for each in walks]
    trains = {one.place.source.shown for each in walks for walked in each for one in walked.path.trainings}
    return Examined(sources, unread, _distinct(one for each in found for one in each), frozenset(trains))


def _functions(source: Source, entered: set[ast.AST], make: Callable[[Plan], Path]) -> Iterator[list[Walked]]:
    """The paths of each function that no script reaches, until `MOST_STEPS` of them are followed."""
    steps = 0
    for name in _uncalled(source, entered):
        walks = list(walk(source, make, [name], FEW_PATHS))
        steps += sum(walked.path.steps for walked in walks)
        yield walks
        if steps > MOST_STEPS:
            return


def _uncalled(source: Source, entered: set[ast.AST]) -> Iterator[str]:
    """Functions and methods that no script reaches."""
    for node in source.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _is_open(node, entered):
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef) and _is_open(one, entered)]
            yield from (f"{node.name}.{one.name}" for one in methods if not one.name.startswith("__"))


def _is_open(node: ast.FunctionDef | ast.AsyncFunctionDef, entered: set[ast.AST]) -> bool:
    """Whether nothing reached a function that has a word of training."""
    return node not in entered and _TRAINING.search(ast.unparse(node)) is not None


def _of_path(path: Path, releases: Releases, signatures: Signatures, rule: str) -> Iterator[Finding]:
    yield from training_findings(path, releases)
    yield from argument_findings(path, releases, signatures)
    yield from import_findings(path, releases, signatures)
    yield from mask_findings(path)
    yield from evaluation_findings(path)
    if rule:
        yield from attention_findings(path, releases, rule)


# -------------------------------------------------------------------------------------------------------------- merging


def merged(walks: Sequence[Walked], findings: Callable[[Path], Iterable[Finding]]) -> list[Finding]:
    """The findings of all paths of a script, each once, with the conditions under which it holds."""
    per_path = [{_key(one): one for one in findings(walked.path)} for walked in walks]
    keys = dict.fromkeys(key for found in per_path for key in found)
    return [one for key in keys if (one := _joined(key, walks, per_path)) is not None]


def _key(finding: Finding) -> Key:
    return finding.pattern, finding.place.source.shown, finding.place.line


def _joined(key: Key, walks: Sequence[Walked], per_path: Sequence[dict[Key, Finding]]) -> Finding | None:
    having = [(walked, found[key]) for walked, found in zip(walks, per_path, strict=True) if key in found]
    # The most serious answer among the paths, and among equal ones the first: that of the defaults.
    order = tuple(Status)
    walked, worst = min(having, key=lambda one: order.index(one[1].status))
    if len(having) == len(walks):
        return worst
    conditions = _conditions([walked for walked, _ in having], walks)
    if worst.pattern in ("removed-argument", "removed-name") and any(_GUARDS.search(one.key) for one in walked.choices):
        return None
    if any("pad_token" in one.key for one in conditions) and worst.status is Status.HIT:
        worst = replace(worst, status=Status.RUN)
    return replace(worst, when=" and ".join(map(_in_words, conditions)))


def _conditions(having: Sequence[Walked], walks: Sequence[Walked]) -> list[Choice]:
    """The conditions that all paths with a finding share, and that not every path has."""
    shared = {one.key: one for one in having[0].choices}
    for walked in having[1:]:
        taken = {one.key: one.taken for one in walked.choices}
        shared = {key: one for key, one in shared.items() if taken.get(key) == one.taken}
    everywhere = [{one.key: one.taken for one in walked.choices} for walked in walks]
    return [one for key, one in shared.items() if any(taken.get(key) != one.taken for taken in everywhere)]


def _in_words(choice: Choice) -> str:
    text = choice.key.partition(": ")[2]
    return text if choice.taken else f"not {text}" if re.fullmatch(r"[\w.]+", text) else f"not ({text})"


def _distinct(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once: scripts share modules. The most serious answer counts."""
    order = tuple(Status)
    found: dict[Key, Finding] = {}
    for one in findings:
        known = found.get(_key(one))
        if known is None or order.index(one.status) < order.index(known.status):
            found[_key(one)] = one
    return sorted(found.values(), key=lambda one: (order.index(one.status), one.place.source.shown, one.place.line))
