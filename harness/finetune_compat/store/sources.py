"""Which files of this project run inside a cell: the static closure of its imports. Host side; nothing is imported.

Files that judge, render or schedule cells are not included, because changing them does not change what is measured. The
values that a cell gets from the catalog are hashed (`given`), not the catalog's file: so changing an entitlement
changes no address. A cell does not store its observation if another module of this project is loaded
(`finetune_compat.cell.storing`).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_compat.contract import catalog
from finetune_compat.contract.catalog import Flow
from finetune_compat.contract.plan import apart
from finetune_compat.machine.places import PACKAGE

ENTRANCES = ("finetune_compat.cell.runner", "finetune_compat.cell.execution")
"""The modules that a cell process calls. `execution` also runs the modules of the flow and of its objective."""

WATCH = (
    "finetune_compat.cell.script.process",
    "finetune_compat.cell.script.notebook",
    "finetune_compat.cell.script.calls",
)
"""The modules that a watched process of a script imports or runs."""

STARTER = "finetune_compat.cell.site.sitecustomize"
"""The file that imports them. It is no module of the package: Python finds it in a directory on its path."""

REAL = "finetune_compat.cell.real"
"""Only imported for real weights."""

CATALOG = "finetune_compat.contract.catalog"

_NOT_BY_VALUE = frozenset({"MODELS"})
"""Catalog constants that are not hashed. A cell has one model, so only the shape of that model is hashed."""

_QUOTED = re.compile(rb"""["'](finetune_compat(?:\.\w+)+)["']""")


@dataclass(frozen=True, slots=True)
class _Module:
    """One module of this project."""

    sha256: str
    imports: frozenset[str]
    """Modules of this project that it imports anywhere, or names in a string literal, as for `import_module`."""
    from_catalog: frozenset[str]
    """Names that it imports from the catalog."""


class Sources:
    """The modules of the package below `root`. Files and results are read and calculated once, and cached."""

    def __init__(self, root: Path = PACKAGE.parent) -> None:
        self._root = root
        self._modules: dict[str, _Module] = {}
        self._closures: dict[tuple[str, bool], dict[str, _Module]] = {}
        self._digests: dict[tuple[str, ...], str] = {}

    def modules(self, flow: Flow, *, real: bool) -> frozenset[str]:
        """The modules that run inside a cell of `flow`, with real or tiny weights, except those that are `apart`."""
        return frozenset(self._closure(flow, real=real))

    def digest(self, flow: Flow, *, real: bool) -> str:
        """sha256 over the names and contents of `modules`."""
        key = (flow.name, str(real))
        if key not in self._digests:
            closure = self._closure(flow, real=real)
            self._digests[key] = _sha256([(name, closure[name].sha256) for name in sorted(closure)])
        return self._digests[key]

    def watch(self) -> str:
        """sha256 over what runs in a watched process of a script: files, and the catalog's constants they import."""
        if ("watch",) not in self._digests:
            closure = dict(self._walk([*WATCH, STARTER], set()))
            constants = {name: getattr(catalog, name) for name in self._constants(closure)}
            files = [(name, closure[name].sha256) for name in sorted(closure)]
            self._digests["watch",] = _sha256([files, constants])
        return self._digests["watch",]

    def given(self, flow: Flow, model: str, *, real: bool) -> str:
        """sha256 over the catalog's values for a cell of `flow` with the model of that name."""
        key = (flow.name, model, str(real))
        if key not in self._digests:
            constants = {name: getattr(catalog, name) for name in self.constants(flow, real=real)}
            shape = None if real else catalog.MODELS[model].shape
            self._digests[key] = _sha256([constants, flow.name, flow.subject, catalog.lora_of(flow, model), shape])
        return self._digests[key]

    def constants(self, flow: Flow, *, real: bool) -> frozenset[str]:
        """Names of the catalog's constants that `modules` import. Functions and classes are left out, because what they
        return is hashed.
        """
        return self._constants(self._closure(flow, real=real)) - _NOT_BY_VALUE

    def _constants(self, closure: Mapping[str, _Module]) -> frozenset[str]:
        names = {name for module in closure.values() for name in module.from_catalog}
        return frozenset(name for name in names if not callable(getattr(catalog, name)))

    def _closure(self, flow: Flow, *, real: bool) -> dict[str, _Module]:
        key = (flow.name, real)
        if key not in self._closures:
            entrances = [*ENTRANCES, flow.module, flow.objective.module]
            self._closures[key] = dict(self._walk(entrances, set() if real else {REAL}))
        return self._closures[key]

    def _walk(self, todo: list[str], done: set[str]) -> Iterator[tuple[str, _Module]]:
        while todo:
            name = todo.pop()
            if name in done or apart(name):
                continue
            done.add(name)
            module = self._module(name)
            if module is not None:
                yield name, module
                todo += [*module.imports, *_parents(name)]

    def _module(self, name: str) -> _Module | None:
        """The module called `name`; None if `name` is an attribute of a module."""
        if name not in self._modules:
            path = self._path(name)
            if path is None:
                return None
            self._modules[name] = _read(path)
        return self._modules[name]

    def _path(self, name: str) -> Path | None:
        stem = self._root.joinpath(*name.split("."))
        return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


@functools.cache
def sources() -> Sources:
    """The sources of this checkout, read at the first call."""
    return Sources()


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _read(path: Path) -> _Module:
    content = path.read_bytes()
    imports = {name.decode() for name in _QUOTED.findall(content)}
    from_catalog: set[str] = set()
    for node in _statements(ast.parse(content)):
        match node:
            case ast.Import(names=names):
                imports.update(alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                imports.update({module, *(f"{module}.{alias.name}" for alias in names)})
                from_catalog.update(alias.name for alias in names if module == CATALOG)
            case _:
                pass
    ours = frozenset(name for name in imports if name.partition(".")[0] == "finetune_compat")
    return _Module(hashlib.sha256(content).hexdigest(), ours, frozenset(from_catalog))


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement at any depth. Expressions are skipped: they contain no imports, and are 90 % of the nodes."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for block in _BLOCKS:
            found = getattr(node, block, None)
            if isinstance(found, list):
                todo += found


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(_plain(value), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """`value` as JSON types, equal in every process."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
