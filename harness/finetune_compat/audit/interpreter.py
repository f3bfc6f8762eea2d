"""Follows values along one path through a script. Nothing of the script is executed.

Functions of the project are followed into their bodies, loops once or for each item of a known list. A condition that
is not known is decided by `Decisions`, which takes every path once (`audit.paths`).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from finetune_compat.audit.sources import Source
from finetune_compat.audit.values import (
    Class,
    Const,
    External,
    Function,
    Instance,
    Items,
    Made,
    Model,
    Module,
    Place,
    Scope,
    Table,
    Tokenizer,
    Training,
    Value,
)

DEEPEST = 16
"""Calls inside calls of functions of the project."""

MOST_STEPS = 40_000
"""Statements and expressions of one path."""

MOST_ITEMS = 8
"""Items of a list for which a loop is followed."""

MOST_HELD = 10_000
"""Items of a list. Forty lines that double one would fill any memory."""

LARGEST_WHOLE = 2**64
"""Absolute value of a whole number in a script. Python prints no number of more than 4,300 digits."""


class Decisions(Protocol):
    """Decides conditions that are not known."""

    def take(self, key: str, place: Place, first: bool, default: bool) -> bool:  # noqa: FBT001 - a protocol's method
        """Whether to take the branch. `first` is tried first; `default`: it follows from defaults of options."""


class Library(Protocol):
    """What calls and attributes of libraries give."""

    def call(self, path: Path, name: str, given: Given) -> Value:
        """The result of calling `name`."""

    def method(self, path: Path, of: Value, name: str, given: Given) -> Value:
        """The result of calling a method."""

    def attribute(self, path: Path, of: Value, name: str) -> Value | None:
        """An attribute; None if nothing is known."""

    def assign(self, path: Path, of: Value, name: str, value: Value, place: Place) -> None:
        """An attribute is assigned."""

    def compare(self, path: Path, test: ast.Compare, left: Value, right: Value) -> bool | None:
        """The result of a comparison that constants do not decide."""


@dataclass(frozen=True)
class Given:
    """The arguments of a call."""

    positional: list[Value]
    named: dict[str, Value]
    place: Place
    open: bool = False
    """Whether there may be further ones."""

    def get(self, place: int | None, name: str) -> Value | None:
        """The argument by its position or name; None if it is not given."""
        if name in self.named:
            return self.named[name]
        return self.positional[place] if place is not None and place < len(self.positional) else None


@dataclass(eq=False)
class Parameter(Value):
    """Each parameter of a model, in a loop."""

    of: Model


@dataclass(eq=False)
class Parameters(Value):
    """The parameters of a model."""

    of: Model
    named: bool
    some: bool = False


@dataclass(eq=False)
class Method(Value):
    """A method of an object."""

    of: Value
    name: str


@dataclass(eq=False)
class Super(Value):
    """`super()` in a method."""

    of: Value
    owner: Class


class _Return(Exception):
    def __init__(self, value: Value) -> None:
        self.value = value


class _Leave(Exception):
    """`break` or `continue`."""


class Ended(Exception):
    """The script raises or exits here."""


class Exhausted(Exception):
    """The path is too long."""


@dataclass
class Path:
    """One path through one script."""

    decisions: Decisions
    library: Library
    find_module: Callable[[str, Source, int], Source | None]
    """The source of a module of the project, by its name, the importing source, and the level of a relative import."""
    versions: Mapping[str, str]
    trainings: list[Training] = field(default_factory=list)
    calls: list[tuple[str, Given]] = field(default_factory=list)
    """Calls of libraries, with their arguments."""
    imports: list[tuple[str, str, Place, bool]] = field(default_factory=list)
    """Names imported from libraries: package, name, place, and whether in a `try`."""
    patched: list[tuple[Value, str, Value, Place]] = field(default_factory=list)
    """Methods of library objects that the script replaces."""
    tokenizers: list[Tokenizer] = field(default_factory=list)
    entered: set[ast.AST] = field(default_factory=set)
    guarded: int = 0
    """Depth of `try` statements with handlers."""
    _modules: dict[str, Module] = field(default_factory=dict)
    steps: int = 0
    _stack: list[ast.AST] = field(default_factory=list)
    _partly: int = 0
    """Depth of conditions in a loop over parameters, which hold for some of them."""
    _over_parameters: int = 0
    _soft: Value = field(default_factory=Value)
    """The value of the last condition."""

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

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Exhausted

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
            self._bind(node.target, _chained(left, right), scope)
        else:
            self._bind(node.target, _calculated(node.op, left, right), scope)

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
                same = self._equal(subject, self.value(case.pattern.value, scope))
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

    # -------------------------------------------------------------------------------------------------------- binding

    def _bind(self, target: ast.expr, value: Value, scope: Scope) -> None:
        match target:
            case ast.Name():
                scope.bind(target.id, value)
            case ast.Attribute():
                self._set(self.value(target.value, scope), target.attr, value, Place(scope.source, target))
            case ast.Subscript():
                of, key = self.value(target.value, scope), self.value(target.slice, scope)
                if isinstance(of, Table) and isinstance(key, Const):
                    of.items[key.value] = value
                elif isinstance(of, Table):
                    of.open = True
            case ast.Tuple() | ast.List():
                self._unpack(target.elts, value, scope)
            case ast.Starred():
                self._bind(target.value, value, scope)

    def _unpack(self, targets: Sequence[ast.expr], value: Value, scope: Scope) -> None:
        items = value.items if isinstance(value, Items) else []
        plain = len(items) == len(targets) and not any(isinstance(one, ast.Starred) for one in targets)
        for place, target in enumerate(targets):
            self._bind(target, items[place] if plain else Value(), scope)

    def _set(self, of: Value, name: str, value: Value, place: Place) -> None:
        if isinstance(of, Parameter) and name == "requires_grad":
            self.switch(of.of, value, place)
        elif isinstance(of, Instance):
            of.attributes[name] = value
        elif isinstance(of, Table):
            of.items[name] = value
        elif isinstance(of, Module):
            of.scope.names[name] = value
        else:
            if isinstance(value, Function) and isinstance(of, Model | Training | External):
                self.patched.append((of, name, value, place))
            self.library.assign(self, of, name, value, place)

    def switch(self, model: Model, value: Value, place: Place) -> None:
        """The gradients of a parameter are switched, in a loop over all parameters or some."""
        on = value.value if isinstance(value, Const) else None
        if on is False and not self._partly:
            model.frozen = model.note("all gradients are switched off", place)
        elif on is not False:
            model.frozen = None

    # ----------------------------------------------------------------------------------------------------- conditions

    def truth(self, test: ast.expr, scope: Scope) -> bool:
        """Whether a condition holds on this path."""
        self._step()
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return not self.truth(test.operand, scope)
        if isinstance(test, ast.BoolOp):
            each = (self.truth(one, scope) for one in test.values)
            return all(each) if isinstance(test.op, ast.And) else any(each)
        known = self._known(test, scope)
        if known is not None:
            return known
        return self._decide(test, scope, self._soft)

    def _known(self, test: ast.expr, scope: Scope) -> bool | None:
        """Whether a condition holds; None if that is not known, or follows from defaults of options only."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = self._known(test.operand, scope)
            return None if inner is None else not inner
        value = self.value(test, scope)
        self._soft = value
        return None if value.default else truthy(value)

    def _decide(self, test: ast.AST, scope: Scope, value: Value) -> bool:
        soft = truthy(value) if value.default else None
        key = f"{scope.source.shown}: {ast.unparse(test)}" if isinstance(test, ast.expr | ast.pattern) else ""
        return self.decisions.take(key, Place(scope.source, test), soft is not False, soft is not None)

    # ---------------------------------------------------------------------------------------------------- expressions

    def value(self, node: ast.expr, scope: Scope) -> Value:
        """What is known of an expression."""
        self._step()
        handler = getattr(self, f"_of_{type(node).__name__}", None)
        return handler(node, scope) if handler is not None else Value()

    def _of_Constant(self, node: ast.Constant, scope: Scope) -> Value:
        known = not isinstance(node.value, int) or abs(node.value) < LARGEST_WHOLE
        return Const(node.value) if known else Value()

    def _of_Name(self, node: ast.Name, scope: Scope) -> Value:
        found = scope.find(node.id)
        return found if found is not None else External(f"builtins.{node.id}")

    def _of_JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> Value:
        parts = [self.value(one.value if isinstance(one, ast.FormattedValue) else one, scope) for one in node.values]
        texts = [str(part.value) for part in parts if isinstance(part, Const)]
        if len(texts) < len(parts) or sum(map(len, texts)) > LONGEST:
            return Value()
        return Const("".join(texts), default=_any(parts))

    def _of_List(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Value:
        found = Items([])
        for one in node.elts:
            if isinstance(one, ast.Starred):
                inner = self.value(one.value, scope)
                found = _chained(found, inner if isinstance(inner, Items) else Items([], open=True))
            else:
                found.items.append(self.value(one, scope))
        return found

    _of_Tuple = _of_List
    _of_Set = _of_List

    def _of_Dict(self, node: ast.Dict, scope: Scope) -> Value:
        found = Table({})
        for key, one in zip(node.keys, node.values, strict=True):
            value = self.value(one, scope)
            name = self.value(key, scope) if key is not None else None
            if key is None and isinstance(value, Table):
                found.items |= value.items
                found.open |= value.open
            elif isinstance(name, Const) and isinstance(name.value, str | int | float | bool | None):
                found.items[name.value] = value
            else:
                found.open = True
        return found

    def _of_BinOp(self, node: ast.BinOp, scope: Scope) -> Value:
        left, right = self.value(node.left, scope), self.value(node.right, scope)
        if isinstance(left, Items) and isinstance(right, Items) and isinstance(node.op, ast.Add):
            return _chained(left, right)
        if isinstance(node.op, ast.BitOr) and isinstance(left, Table) and isinstance(right, Table):
            return Table({**left.items, **right.items}, left.open or right.open)
        return _calculated(node.op, left, right)

    def _of_UnaryOp(self, node: ast.UnaryOp, scope: Scope) -> Value:
        value = self.value(node.operand, scope)
        if isinstance(node.op, ast.Not):
            known = truthy(value)
            return Value() if known is None else Const(not known, default=value.default)
        if isinstance(value, Const) and isinstance(node.op, ast.USub) and isinstance(value.value, int | float):
            return Const(-value.value, default=value.default)
        return Value()

    def _of_BoolOp(self, node: ast.BoolOp, scope: Scope) -> Value:
        is_and = isinstance(node.op, ast.And)
        value: Value = Value()
        for one in node.values:
            value = self.value(one, scope)
            known = truthy(value)
            if known is None or value.default:
                known = self._decide(one, scope, value)
            if known is not is_and:
                return value
        return value

    def _of_IfExp(self, node: ast.IfExp, scope: Scope) -> Value:
        return self.value(node.body if self.truth(node.test, scope) else node.orelse, scope)

    def _of_Compare(self, node: ast.Compare, scope: Scope) -> Value:
        left = self.value(node.left, scope)
        if len(node.ops) > 1:
            return Value()
        right = self.value(node.comparators[0], scope)
        known = self._compared(node.ops[0], left, right)
        if known is None:
            known = self.library.compare(self, node, left, right)
        return Value() if known is None else Const(known, default=left.default or right.default)

    def _compared(self, op: ast.cmpop, left: Value, right: Value) -> bool | None:
        match op:
            case ast.Is() | ast.Eq():
                return self._equal(left, right)
            case ast.IsNot() | ast.NotEq():
                same = self._equal(left, right)
                return None if same is None else not same
            case ast.In() | ast.NotIn():
                found = _contains(left, right)
                return None if found is None else found is isinstance(op, ast.In)
            case _ if isinstance(left, Const) and isinstance(right, Const):
                return _ordered(op, left.value, right.value)
        return None

    @staticmethod
    def _equal(left: Value, right: Value) -> bool | None:
        if isinstance(left, Const) and isinstance(right, Const):
            return bool(left.value == right.value)
        pair = (left, right)
        if any(isinstance(one, Const) and one.value is None for one in pair):
            other = right if isinstance(left, Const) else left
            return False if type(other) is not Value and not isinstance(other, Const) else None
        return None

    def _of_Subscript(self, node: ast.Subscript, scope: Scope) -> Value:
        of, key = self.value(node.value, scope), self.value(node.slice, scope)
        if isinstance(of, Table) and isinstance(key, Const):
            return of.items.get(key.value, Value())
        if isinstance(of, Items) and isinstance(key, Const) and isinstance(key.value, int) and not of.open:
            return of.items[key.value] if -len(of.items) <= key.value < len(of.items) else Value()
        return Value()

    def _of_Attribute(self, node: ast.Attribute, scope: Scope) -> Value:
        return self.attribute(self.value(node.value, scope), node.attr)

    def attribute(self, of: Value, name: str) -> Value:
        """What is known of an attribute."""
        match of:
            case External():
                found = self.library.attribute(self, of, name)
                return found if found is not None else External(f"{of.name}.{name}")
            case Module():
                return of.scope.find(name) or Value()
            case Instance() if name in of.attributes:
                return of.attributes[name]
            case Instance():
                return self._member(of.of, name, of)
            case Class():
                return of.find(name) or Value()
            case Super():
                return self._above(of, name)
            case Table() if name in of.items:
                return of.items[name]
            case Training() if of.own is not None and of.own.find(name) is not None:
                return self._member(of.own, name, of)
        found = self.library.attribute(self, of, name)
        return found if found is not None else Method(of, name)

    def _member(self, of: Class, name: str, bound: Value) -> Value:
        found = of.find(name)
        if isinstance(found, Function):
            if any(isinstance(one, ast.Name) and one.id == "property" for one in found.node.decorator_list):  # type: ignore[union-attr]
                return self.call_function(_bound(found, bound), Given([], {}, Place(found.source, found.node)))
            return _bound(found, bound)
        return found if found is not None else Method(bound, name)

    def _above(self, of: Super, name: str) -> Value:
        for base in of.owner.bases:
            found = base.find(name) if isinstance(base, Class) else None
            if isinstance(found, Function):
                return _bound(found, of.of)
        return Method(of.of, name)

    def _of_Lambda(self, node: ast.Lambda, scope: Scope) -> Value:
        return Function(node, scope.source, scope)

    def _of_Await(self, node: ast.Await, scope: Scope) -> Value:
        return self.value(node.value, scope)

    def _of_NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> Value:
        value = self.value(node.value, scope)
        self._bind(node.target, value, scope)
        return value

    def _of_Starred(self, node: ast.Starred, scope: Scope) -> Value:
        return self.value(node.value, scope)

    def _of_ListComp(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp, scope: Scope) -> Value:
        first = node.generators[0]
        over = self.value(first.iter, scope)
        if isinstance(over, Parameters):
            return Parameters(over.of, named=False, some=over.some or bool(first.ifs))
        inner = Scope({}, scope, scope.source)
        known = isinstance(over, Items) and not over.open and len(node.generators) == 1 and not first.ifs
        items = over.items[:MOST_ITEMS] if known and isinstance(over, Items) else [Value()]
        made = []
        for item in items:
            self._bind(first.target, item, inner)
            for other in node.generators[1:]:
                self.value(other.iter, inner)
                self._bind(other.target, Value(), inner)
            made.append(self.value(node.elt, inner))
        return Items(made, open=not known or (isinstance(over, Items) and len(over.items) > MOST_ITEMS))

    _of_GeneratorExp = _of_ListComp
    _of_SetComp = _of_ListComp

    def _of_DictComp(self, node: ast.DictComp, scope: Scope) -> Value:
        for generator in node.generators:
            self.value(generator.iter, scope)
        return Table({}, open=True)

    # ---------------------------------------------------------------------------------------------------------- calls

    def _of_Call(self, node: ast.Call, scope: Scope) -> Value:
        if isinstance(node.func, ast.Name) and node.func.id == "super":
            return self._super(scope)
        callee = self.value(node.func, scope)
        return self.call(callee, self._given(node, scope))

    def _super(self, scope: Scope) -> Value:
        of, owner = scope.find("self"), scope.find("__class__")
        return Super(of, owner) if of is not None and isinstance(owner, Class) else Value()

    def _given(self, node: ast.Call, scope: Scope) -> Given:
        positional: list[Value] = []
        named: dict[str, Value] = {}
        is_open = False
        for one in node.args:
            value = self.value(one, scope)
            if isinstance(one, ast.Starred):
                more = _chained(Items(positional), value if isinstance(value, Items) else Items([], open=True))
                positional, is_open = more.items, is_open or more.open
            else:
                positional.append(value)
        for keyword in node.keywords:
            value = self.value(keyword.value, scope)
            if keyword.arg is not None:
                named[keyword.arg] = value
            elif isinstance(value, Table):
                named |= {str(name): one for name, one in value.items.items()}
                is_open |= value.open
            else:
                is_open = True
        return Given(positional, named, Place(scope.source, node), is_open)

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
                self.call_function(_bound(init, made), given)
            else:
                self.library.method(self, made, "__init__", given)
            return made
        fields = {name: softened(value) for name, value in fields_of(of).items()}
        if isinstance(made, Model):
            return made
        if isinstance(made, Made) and _is_dataclass(of):
            made.given |= {**fields, **given.named}
            made.open = given.open
            return made
        instance = Instance(of, {**fields, **given.named} if _is_dataclass(of) else {})
        init = of.find("__init__")
        if isinstance(init, Function):
            self.call_function(_bound(init, instance), given)
        return instance


def softened(value: Value) -> Value:
    """A constant as a default, which may be replaced."""
    return Const(value.value, default=True) if isinstance(value, Const) else value


def _bound(function: Function, to: Value) -> Function:
    static = any(
        isinstance(one, ast.Name) and one.id == "staticmethod" for one in getattr(function.node, "decorator_list", ())
    )
    return Function(function.node, function.source, function.scope, None if static else to, function.owner)


def _is_dataclass(of: Class) -> bool:
    return any("dataclass" in ast.unparse(one) for one in of.node.decorator_list)


def fields_of(of: Class) -> dict[str, Value]:
    """The defaults of a dataclass, those of its bases of the project first."""
    found: dict[str, Value] = {}
    for base in of.bases:
        if isinstance(base, Class):
            found |= fields_of(base)
    return found | {
        name: _default(value) for name, value in of.members.items() if not isinstance(value, Function | Class)
    }


def _default(value: Value) -> Value:
    """Of `field(default=...)` its default."""
    if isinstance(value, Made) and value.name.rpartition(".")[2] in ("field", "Field"):
        return value.given.get("default", Value())
    return value


def truthy(value: Value) -> bool | None:
    """Whether a value counts as true; None if that is not known."""
    match value:
        case Const():
            return bool(value.value)
        case Items() | Table():
            return None if value.open and not value.items else bool(value.items)
        case Model() | Made() | Training() | Tokenizer() | Function() | Class() | Instance() | Module():
            return True
    return None


def _any(values: Sequence[Value]) -> bool:
    return any(value.default for value in values)


def _contains(left: Value, right: Value) -> bool | None:
    if not isinstance(left, Const):
        return None
    if isinstance(right, Table):
        return True if left.value in right.items else None if right.open else False
    if isinstance(right, Items) and all(isinstance(one, Const) for one in right.items):
        return left.value in [one.value for one in right.items if isinstance(one, Const)] or (
            None if right.open else False
        )
    if isinstance(right, Const) and isinstance(right.value, str) and isinstance(left.value, str):
        return left.value in right.value
    return None


_ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def _ordered(op: ast.cmpop, left: object, right: object) -> bool | None:
    try:
        return bool(_ORDERS[type(op)](left, right))
    except (TypeError, KeyError):
        return None


_OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
LARGEST = 1e12
"""Absolute value of a number that is calculated."""

LONGEST = 10_000
"""Characters of a text that is calculated."""


def _chained(one: Items, other: Items) -> Items:
    """The items of both lists; of more than `MOST_HELD`, the first ones."""
    if len(one.items) + len(other.items) > MOST_HELD:
        return Items([*one.items, *other.items[: max(0, MOST_HELD - len(one.items))]], open=True)
    return Items([*one.items, *other.items], one.open or other.open)


def _calculated(op: ast.operator, left: Value, right: Value) -> Value:
    if not (isinstance(left, Const) and isinstance(right, Const)):
        return Value()
    numbers = all(isinstance(one.value, int | float) and abs(one.value) < LARGEST for one in (left, right))
    texts = isinstance(op, ast.Add | ast.Div) and all(isinstance(one.value, str) for one in (left, right))
    if not numbers and not texts:
        return Value()
    if isinstance(op, ast.Div) and texts:  # Path("configs") / "train.yaml"
        return Const(f"{left.value.rstrip('/')}/{right.value}", default=left.default or right.default)
    try:
        made = _OPERATIONS[type(op)](left.value, right.value)
    except (KeyError, ArithmeticError, TypeError, ValueError):
        return Value()
    return (
        Value() if isinstance(made, str) and len(made) > LONGEST else Const(made, default=left.default or right.default)
    )
