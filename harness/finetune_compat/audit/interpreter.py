"""Follows values along one path through a script. Nothing of the script is executed.

Functions of the project are followed into their bodies, loops once or for each item of a known list. A condition that
is not known is decided by `Decisions`, which takes every path once (`audit.paths`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.classes import bound_to, fields_of, is_dataclass, softened
from finetune_compat.audit.expressions import MOST_ITEMS, Expressions, Facts
from finetune_compat.audit.operations import calculated, chained, equal
from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import (
    Class,
    Const,
    External,
    Function,
    Instance,
    Items,
    Made,
    Method,
    Model,
    Module,
    Parameter,
    Parameters,
    Place,
    Scope,
    Table,
    Tokenizer,
    Training,
    Value,
)

DEEPEST = 16
"""Calls inside calls of functions of the project."""


class Library(Facts, Protocol):
    """What calls of libraries give, too."""

    def call(self, path: Path, name: str, given: Given) -> Value:
        """The result of calling `name`."""

    def method(self, path: Path, of: Value, name: str, given: Given) -> Value:
        """The result of calling a method."""


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class _Leave(Exception):
    """`break` or `continue`."""


class Ended(Exception):
    """The script raises or exits here."""


@dataclass
class Path(Expressions):
    """One path through one script."""

    library: Library
    find_module: Callable[[str, Source, int], Source | None]
    """The source of a module of the project, by its name, the importing source, and the level of a relative import."""
    versions: Mapping[str, str]
    trainings: list[Training] = field(default_factory=list)
    calls: list[tuple[str, Given]] = field(default_factory=list)
    """Calls of libraries, with their arguments."""
    imports: list[tuple[str, str, Place, bool]] = field(default_factory=list)
    """Names imported from libraries: package, name, place, and whether in a `try`."""
    tokenizers: list[Tokenizer] = field(default_factory=list)
    entered: set[ast.AST] = field(default_factory=set)
    guarded: int = 0
    """Depth of `try` statements with handlers."""
    _modules: dict[str, Module] = field(default_factory=dict)
    _stack: list[ast.AST] = field(default_factory=list)
    _over_parameters: int = 0

    # ------------------------------------------------------------------------------------------------------- a script

    def run(self, source: Source, name: str = "__main__") -> Module:
        """Follow a source from its first statement."""
        scope = Scope({"__name__": Const(name), "__file__": Const(str(source.path))}, None, source)
        module = Module(scope)
        self._modules[source.shown] = module
        with suppress(_Return, _Leave):
            self._block(source.tree.body, scope)
        return module

    def enter(self, function: Function) -> None:
        """Follow a function with its defaults, and unknown arguments."""
        place = Place(function.source, function.node)
        self.call_function(function, Given([], {}, place, open=True))

    def modules(self) -> list[Module]:
        """The modules of the project that the path went through."""
        return list(self._modules.values())

    def _module(self, source: Source, name: str) -> Module:
        known = self._modules.get(source.shown)
        return known if known is not None else self.run(source, name)

    # ----------------------------------------------------------------------------------------------------- statements

    def _block(self, statements: Sequence[ast.stmt], scope: Scope) -> None:
        for statement in statements:
            self._step()
            handler = getattr(self, f"_do_{type(statement).__name__}", None)
            if handler is not None:
                handler(statement, scope)

    def _do_Expr(self, node: ast.Expr, scope: Scope) -> None:
        self.value(node.value, scope)

    def _do_Assign(self, node: ast.Assign, scope: Scope) -> None:
        value = self.value(node.value, scope)
        for target in node.targets:
            self._bind(target, value, scope)

    def _do_AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> None:
        if node.value is not None:
            self._bind(node.target, self.value(node.value, scope), scope)

    def _do_AugAssign(self, node: ast.AugAssign, scope: Scope) -> None:
        left = self.value(node.target, scope) if not isinstance(node.target, ast.Starred) else Value()
        right = self.value(node.value, scope)
        if isinstance(left, Items) and isinstance(right, Items):
            self._bind(node.target, chained(left, right), scope)
        else:
            self._bind(node.target, calculated(node.op, left, right), scope)

    def _do_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        for decorator in node.decorator_list:
            self.value(decorator, scope)
        scope.bind(node.name, Function(node, scope.source, scope))

    _do_AsyncFunctionDef = _do_FunctionDef

    def _do_ClassDef(self, node: ast.ClassDef, scope: Scope) -> None:
        inner = Scope({}, scope, scope.source)
        self._block(node.body, inner)
        bases = tuple(self.value(base, scope) for base in node.bases)
        made = Class(node, scope.source, scope, bases, inner.names)
        for member in made.members.values():
            if isinstance(member, Function):
                member.owner = made
                member.scope = scope
        scope.bind(node.name, made)

    def _do_Return(self, node: ast.Return, scope: Scope) -> None:
        raise _Return(self.value(node.value, scope) if node.value else Const(None))

    def _do_Raise(self, node: ast.Raise, scope: Scope) -> None:
        raise Ended

    def _do_Break(self, node: ast.Break, scope: Scope) -> None:
        raise _Leave

    _do_Continue = _do_Break

    def _do_Global(self, node: ast.Global | ast.Nonlocal, scope: Scope) -> None:
        scope.outer |= set(node.names)

    _do_Nonlocal = _do_Global

    def _do_Delete(self, node: ast.Delete, scope: Scope) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                scope.names.pop(target.id, None)

    def _do_If(self, node: ast.If, scope: Scope) -> None:
        if self._over_parameters:
            known = self._known(node.test, scope)
            if known is None:
                self._partly += 1
                try:
                    self._both(node, scope)
                finally:
                    self._partly -= 1
                return
            self._block(node.body if known else node.orelse, scope)
            return
        self._block(node.body if self.truth(node.test, scope) else node.orelse, scope)

    def _both(self, node: ast.If, scope: Scope) -> None:
        for block in (node.body, node.orelse):
            with suppress(_Leave):
                self._block(block, scope)

    def _do_While(self, node: ast.While, scope: Scope) -> None:
        self.value(node.test, scope)
        self._loop(node.body, scope)

    def _do_For(self, node: ast.For | ast.AsyncFor, scope: Scope) -> None:
        over = self.value(node.iter, scope)
        if isinstance(over, Parameters):
            self._loop_over_parameters(node, over, scope)
            return
        items = over.items[:MOST_ITEMS] if isinstance(over, Items) and not over.open else [Value()]
        for item in items:
            self._bind(node.target, item, scope)
            self._loop(node.body, scope)

    _do_AsyncFor = _do_For

    def _loop_over_parameters(self, node: ast.For | ast.AsyncFor, over: Parameters, scope: Scope) -> None:
        one = Parameter(over.of)
        self._bind(node.target, Items([Value(), one]) if over.named else one, scope)
        self._over_parameters += 1
        self._partly += over.some
        try:
            self._loop(node.body, scope)
        finally:
            self._over_parameters -= 1
            self._partly -= over.some

    def _loop(self, body: Sequence[ast.stmt], scope: Scope) -> None:
        with suppress(_Leave):
            self._block(body, scope)

    def _do_With(self, node: ast.With | ast.AsyncWith, scope: Scope) -> None:
        undo = []
        for item in node.items:
            made = self.value(item.context_expr, scope)
            if isinstance(made, Made) and made.name == "disable_adapter":
                undo.append(made.given["model"])
            if item.optional_vars is not None:
                self._bind(item.optional_vars, made, scope)
        off = [model.off for model in undo if isinstance(model, Model)]
        self._block(node.body, scope)
        for model, before in zip((model for model in undo if isinstance(model, Model)), off, strict=True):
            model.off = before

    _do_AsyncWith = _do_With

    def _do_Try(self, node: ast.Try, scope: Scope) -> None:
        self.guarded += bool(node.handlers)
        ended = False
        try:
            self._block(node.body, scope)
        except Ended:
            if not node.handlers:
                raise
            ended = True
        finally:
            self.guarded -= bool(node.handlers)
        if ended:
            handler = node.handlers[0]
            if handler.name:
                scope.bind(handler.name, Value())
            self._block(handler.body, scope)
        else:
            self._block(node.orelse, scope)
        self._block(node.finalbody, scope)

    _do_TryStar = _do_Try

    def _do_Match(self, node: ast.Match, scope: Scope) -> None:
        subject = self.value(node.subject, scope)
        for case in node.cases:
            if isinstance(case.pattern, ast.MatchValue):
                same = equal(subject, self.value(case.pattern.value, scope))
                taken = same if same is not None else self._decide(case.pattern, scope, Value())
            else:
                taken = True
            if taken:
                self._block(case.body, scope)
                return

    # ------------------------------------------------------------------------------------------------ names of modules

    def _do_Import(self, node: ast.Import, scope: Scope) -> None:
        for alias in node.names:
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            scope.bind(alias.asname or name, self._imported(name, scope, node, 0))

    def _do_ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> None:
        module = self._imported(node.module or "", scope, node, node.level)
        for alias in node.names:
            if alias.name == "*":
                if isinstance(module, Module):
                    scope.names.update(module.scope.names)
                continue
            place = Place(scope.source, node)
            if isinstance(module, External):
                self.imports.append((module.name, alias.name, place, self.guarded > 0))
                scope.bind(alias.asname or alias.name, External(f"{module.name}.{alias.name}"))
                continue
            found = module.scope.find(alias.name) if isinstance(module, Module) else None
            if found is None:
                inner = ".".join(part for part in (node.module, alias.name) if part)
                found = self._imported(inner, scope, node, node.level)
            scope.bind(alias.asname or alias.name, found)

    def _imported(self, name: str, scope: Scope, node: ast.stmt, level: int) -> Value:
        source = self.find_module(name, scope.source, level)
        if source is None:
            return Value() if level else External(name)
        return self._module(source, name)

    # ---------------------------------------------------------------------------------------------------------- calls

    def call(self, callee: Value, given: Given) -> Value:
        """The result of a call."""
        match callee:
            case Function():
                return self.call_function(callee, given)
            case Class():
                return self._make(callee, given)
            case External():
                self.calls.append((callee.name, given))
                return self.library.call(self, callee.name, given)
            case Method():
                return self.library.method(self, callee.of, callee.name, given)
            case Instance():
                return self.call(self._member(callee.of, "__call__", callee), given)
        return Value()

    def call_function(self, function: Function, given: Given) -> Value:
        """Follow a function of the project."""
        if len(self._stack) >= DEEPEST or function.node in self._stack:
            return Value()
        self.entered.add(function.node)
        inner = Scope({}, function.scope, function.source)
        if function.owner is not None:
            inner.names["__class__"] = function.owner
        self._bind_arguments(function, given, inner)
        if isinstance(function.node, ast.Lambda):
            return self.value(function.node.body, inner)
        self._stack.append(function.node)
        try:
            self._block(function.node.body, inner)
        except _Return as returned:
            return returned.value
        except _Leave:
            pass
        finally:
            self._stack.pop()
        return Const(None)

    def _bind_arguments(self, function: Function, given: Given, inner: Scope) -> None:
        arguments = function.node.args
        names = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
        values = [function.bound, *given.positional] if function.bound is not None else given.positional
        defaults = dict(zip(names[len(names) - len(arguments.defaults) :], arguments.defaults, strict=True))
        defaults |= {
            one.arg: default
            for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default
        }
        bound = dict(zip(names, values, strict=False))
        for name in (*names, *(one.arg for one in arguments.kwonlyargs)):
            if name in bound:
                inner.names[name] = bound[name]
            elif name in given.named:
                inner.names[name] = given.named[name]
            elif name in defaults:
                value = self.value(defaults[name], function.scope)
                inner.names[name] = softened(value) if given.open else value
            else:
                inner.names[name] = Value()
        if arguments.vararg:
            inner.names[arguments.vararg.arg] = Items(list(values[len(names) :]), given.open)
        if arguments.kwarg:
            rest = {name: value for name, value in given.named.items() if name not in inner.names}
            inner.names[arguments.kwarg.arg] = Table(dict(rest), given.open)

    def _make(self, of: Class, given: Given) -> Value:
        """An object of a class of the project."""
        base = of.library_base
        made = self.library.call(self, base, Given([], {}, given.place, open=True)) if base else Value()
        if isinstance(made, Training):
            made.own, made.open = of, False
            init = of.find("__init__")
            if isinstance(init, Function):
                self.call_function(bound_to(init, made), given)
            else:
                self.library.method(self, made, "__init__", given)
            return made
        fields = {name: softened(value) for name, value in fields_of(of).items()}
        if isinstance(made, Model):
            return made
        if isinstance(made, Made) and is_dataclass(of):
            made.given |= {**fields, **given.named}
            made.open = given.open
            return made
        instance = Instance(of, {**fields, **given.named} if is_dataclass(of) else {})
        init = of.find("__init__")
        if isinstance(init, Function):
            self.call_function(bound_to(init, instance), given)
        return instance
