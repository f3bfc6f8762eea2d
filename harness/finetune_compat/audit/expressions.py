"""What expressions are on one path through a script, how conditions go, and what names and attributes get."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.classes import bound_to
from finetune_compat.audit.operations import LONGEST, any_default, calculated, chained, compared, truthy
from finetune_compat.audit.values import (
    Class,
    Const,
    External,
    Function,
    Instance,
    Items,
    Method,
    Model,
    Module,
    Parameter,
    Parameters,
    Place,
    Scope,
    Super,
    Table,
    Training,
    Value,
)

MOST_STEPS = 40_000
"""Statements and expressions of one path."""

MOST_ITEMS = 8
"""Items of a list for which a loop is followed."""

LARGEST_WHOLE = 2**64
"""Absolute value of a whole number in a script. Python prints no number of more than 4,300 digits."""


class Decisions(Protocol):
    """Decides conditions that are not known."""

    def take(self, key: str, place: Place, first: bool, default: bool) -> bool:  # noqa: FBT001 - a protocol's method
        """Whether to take the branch. `first` is tried first; `default`: it follows from defaults of options."""


class Facts(Protocol):
    """What is known of objects of libraries."""

    def attribute(self, of: Value, name: str) -> Value | None:
        """An attribute; None if nothing is known."""

    def assign(self, of: Value, name: str, value: Value, place: Place) -> None:
        """An attribute is assigned."""

    def compare(self, test: ast.Compare, left: Value, right: Value) -> bool | None:
        """The result of a comparison that constants do not decide."""


class Exhausted(Exception):
    """The path is too long."""


@dataclass
class Expressions(ABC):
    """The values of expressions on one path. Who follows functions says what calls give."""

    decisions: Decisions
    library: Facts
    patched: list[tuple[Value, str, Value, Place]] = field(default_factory=list, kw_only=True)
    """Methods of library objects that the script replaces."""
    steps: int = field(default=0, kw_only=True)
    _partly: int = field(default=0, kw_only=True)
    """Depth of conditions in a loop over parameters, which hold for some of them."""
    _soft: Value = field(default_factory=Value, kw_only=True)
    """The value of the last condition."""

    @abstractmethod
    def call(self, callee: Value, given: Given) -> Value:
        """The result of a call."""

    @abstractmethod
    def call_function(self, function: Function, given: Given) -> Value:
        """Follow a function of the project."""

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Exhausted

    # -------------------------------------------------------------------------------------------------------- binding

    def _bind(self, target: ast.expr, value: Value, scope: Scope) -> None:
        match target:
            case ast.Name():
                scope.bind(target.id, value)
            case ast.Attribute():
                self.assign(self.value(target.value, scope), target.attr, value, Place(scope.source, target))
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

    def assign(self, of: Value, name: str, value: Value, place: Place) -> None:
        """An attribute is assigned."""
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
            self.library.assign(of, name, value, place)

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
        return Const("".join(texts), default=any_default(parts))

    def _of_List(self, node: ast.List | ast.Tuple | ast.Set, scope: Scope) -> Value:
        found = Items([])
        for one in node.elts:
            if isinstance(one, ast.Starred):
                inner = self.value(one.value, scope)
                found = chained(found, inner if isinstance(inner, Items) else Items([], open=True))
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
            return chained(left, right)
        if isinstance(node.op, ast.BitOr) and isinstance(left, Table) and isinstance(right, Table):
            return Table({**left.items, **right.items}, left.open or right.open)
        return calculated(node.op, left, right)

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
        known = compared(node.ops[0], left, right)
        if known is None:
            known = self.library.compare(node, left, right)
        return Value() if known is None else Const(known, default=left.default or right.default)

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
                found = self.library.attribute(of, name)
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
        found = self.library.attribute(of, name)
        return found if found is not None else Method(of, name)

    def _member(self, of: Class, name: str, bound: Value) -> Value:
        found = of.find(name)
        if isinstance(found, Function):
            if any(isinstance(one, ast.Name) and one.id == "property" for one in found.node.decorator_list):  # type: ignore[union-attr]
                return self.call_function(bound_to(found, bound), Given([], {}, Place(found.source, found.node)))
            return bound_to(found, bound)
        return found if found is not None else Method(bound, name)

    def _above(self, of: Super, name: str) -> Value:
        for base in of.owner.bases:
            found = base.find(name) if isinstance(base, Class) else None
            if isinstance(found, Function):
                return bound_to(found, of.of)
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
                more = chained(Items(positional), value if isinstance(value, Items) else Items([], open=True))
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
