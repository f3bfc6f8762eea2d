"""Which files of this project run inside a cell: the static closure of its imports. Host side; nothing is imported.

A file that judges, words, or hands cells out is not among them: changing it judges again, or runs the same cells in
another order, and measures nothing else. What the catalog gives a cell is counted by value (`given`), so that changing
what a flow's user is entitled to changes no address. A cell refuses to keep an observation when it finds a module of
this project loaded that is in neither list (`finetune_compat.cell.storing`).
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
"""What a cell process calls; `execution` runs the flow's own module and that of its objective as well."""

REAL = "finetune_compat.cell.real"
"""Imported with real weights only."""

CATALOG = "finetune_compat.contract.catalog"

_NOT_BY_VALUE = frozenset({"MODELS"})
"""A cell has one model: its own shape is counted, not those of all."""

_QUOTED = re.compile(rb"""["'](finetune_compat(?:\.\w+)+)["']""")


@dataclass(frozen=True, slots=True)
class _Module:
    """One file."""

    sha256: str
    imports: frozenset[str]
    """Modules of this project that it imports, anywhere in it, or names in a string as `import_module` takes them."""
    from_catalog: frozenset[str]


class Sources:
    """The modules of the package below `root`. Each file is read once, and each answer worked out once."""

    def __init__(self, root: Path = PACKAGE.parent) -> None:
        self._root = root
        self._modules: dict[str, _Module] = {}
        self._closures: dict[tuple[str, bool], dict[str, _Module]] = {}
        self._digests: dict[tuple[str, ...], str] = {}

    def modules(self, flow: Flow, *, real: bool) -> frozenset[str]:
        """The modules that run inside a cell of `flow`, with real weights or tiny ones, but for those set apart."""
        return frozenset(self._closure(flow, real=real))

    def digest(self, flow: Flow, *, real: bool) -> str:
        """sha256 over the names and contents of `modules`."""
        key = (flow.name, str(real))
        if key not in self._digests:
            closure = self._closure(flow, real=real)
            self._digests[key] = _sha256([(name, closure[name].sha256) for name in sorted(closure)])
        return self._digests[key]

    def given(self, flow: Flow, model: str, *, real: bool) -> str:
        """sha256 over what the catalog gives a cell of `flow` on the model of that name."""
        key = (flow.name, model, str(real))
        if key not in self._digests:
            constants = {name: getattr(catalog, name) for name in self.constants(flow, real=real)}
            shape = None if real else catalog.MODELS[model].shape
            self._digests[key] = _sha256([constants, flow.name, flow.subject, catalog.lora_of(flow, model), shape])
        return self._digests[key]

    def constants(self, flow: Flow, *, real: bool) -> frozenset[str]:
        """Names of the catalog's values that `modules` import. Its functions and classes are left out: what they give
        is counted by value.
        """
        names = {name for module in self._closure(flow, real=real).values() for name in module.from_catalog}
        return frozenset(name for name in names - _NOT_BY_VALUE if not callable(getattr(catalog, name)))

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
        """The module called `name`; None where that is a name inside a module."""
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
    """Those of this checkout, as they are when first asked for."""
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
    """Every statement, however deep. Expressions hold no imports, and are nine nodes in ten."""
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
    """`value` as JSON can hold it, the same in every process."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
