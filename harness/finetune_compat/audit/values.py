"""What is known of a value of a script."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_compat.audit.sources import Source


@dataclass(frozen=True, slots=True)
class Place:
    """A node of a source."""

    source: Source
    node: ast.AST

    @property
    def line(self) -> int:
        """From 1."""
        return getattr(self.node, "lineno", 1)

    def __str__(self) -> str:
        return self.source.where(self.line)


@dataclass(eq=False, slots=True)
class Value:
    """Something unknown. Classes below know more."""

    default: bool = field(default=False, kw_only=True)
    """Whether it is a default, which a command line or a configuration may replace."""


@dataclass(eq=False, slots=True)
class Const(Value):
    """A string, a number, a boolean or None."""

    value: Any


@dataclass(eq=False, slots=True)
class Items(Value):
    """A list, tuple or set."""

    items: list[Value]
    open: bool = False
    """Whether it may have further items."""


@dataclass(eq=False, slots=True)
class Table(Value):
    """A dictionary with constant keys, or an object whose attributes are known, such as parsed options."""

    items: dict[Any, Value]
    open: bool = False
    """Whether it may have further items."""


@dataclass(eq=False, slots=True)
class External(Value):
    """Something of a library, such as `trl.SFTTrainer`."""

    name: str


@dataclass(eq=False, slots=True)
class Made(Value):
    """What a call of a library returned, if nothing more is known: a configuration, an object."""

    name: str
    """The callable."""
    given: dict[str, Value]
    """Keyword arguments, and what was assigned to attributes later."""
    place: Place
    positional: tuple[Value, ...] = ()
    open: bool = False
    """Whether it may have been given further arguments."""

    def get(self, name: str) -> Value | None:
        """What was given for `name`; None if nothing was."""
        return self.given.get(name)


@dataclass(eq=False, slots=True)
class Function(Value):
    """A function of the project, with the names it sees."""

    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    source: Source
    scope: Scope
    bound: Value | None = None
    """The object of a method."""
    owner: Class | None = None


@dataclass(eq=False, slots=True)
class Class(Value):
    """A class of the project."""

    node: ast.ClassDef
    source: Source
    scope: Scope
    bases: tuple[Value, ...]
    members: dict[str, Value]

    def find(self, name: str) -> Value | None:
        """The member of this class or a base; of a library's base an `External`."""
        if name in self.members:
            return self.members[name]
        for base in self.bases:
            found = base.find(name) if isinstance(base, Class) else None
            if found is not None:
                return found
        return None

    @property
    def library_base(self) -> str:
        """The class of a library that it derives from; empty if there is none."""
        for base in self.bases:
            name = base.library_base if isinstance(base, Class) else base.name if isinstance(base, External) else ""
            if name:
                return name
        return ""


@dataclass(eq=False, slots=True)
class Instance(Value):
    """An object of a class of the project that derives from no trainer."""

    of: Class
    attributes: dict[str, Value]


@dataclass(eq=False, slots=True)
class Module(Value):
    """A module of the project."""

    scope: Scope


@dataclass(eq=False, slots=True)
class Tokenizer(Value):
    """A tokenizer."""

    place: Place
    pad_is_end: bool | None = None
    """None: not known, what the model's files say."""
    pad_place: Place | None = None
    added: Place | None = None
    """Where tokens were added that text contains."""
    fields: dict[str, Value] = field(default_factory=dict)
    name: str = ""
    """The id it was loaded from, if it is constant."""


@dataclass(eq=False, slots=True)
class Event:
    """Something that happened to a model."""

    what: str
    place: Place


@dataclass(eq=False, slots=True)
class Model(Value):
    """A model. A PeftModel and its base are one object here, because PEFT changes the base in place."""

    place: Place
    kind: str
    """The class that made it."""
    quantized: bool | None = False
    """None: not known."""
    adapters: bool = False
    config: Value | None = None
    """The configuration of its adapters."""
    prepared: bool = False
    input_grads: bool = False
    checkpointing: Table | bool = False
    """Whether checkpointing was switched on by a call, with its keyword arguments."""
    frozen: Event | None = None
    """What switched the adapters' gradients off."""
    off: Event | None = None
    """What took the adapters out of the forward pass."""
    resized: Place | None = None
    attention: Value | None = None
    wrapped_at: Place | None = None
    history: list[Event] = field(default_factory=list)

    def note(self, what: str, place: Place) -> Event:
        """Record what happened."""
        event = Event(what, place)
        self.history.append(event)
        return event


@dataclass(eq=False, slots=True)
class Training(Value):
    """A trainer, or an optimizer of a loop."""

    kind: str
    """The class of the library, such as `trl.SFTTrainer`; `loop` for an optimizer."""
    given: dict[str, Value]
    place: Place
    started: Place | None = None
    """Where training begins; None if the script does not train."""
    own: Class | None = None
    """The class of the project, if it derives from a trainer."""
    open: bool = False

    @property
    def model(self) -> Value | None:
        """What is trained."""
        return self.given.get("model")


class Scope:
    """Names, with those of the scope around."""

    def __init__(self, names: dict[str, Value], around: Scope | None, source: Source) -> None:
        self.names, self.around, self.source = names, around, source
        self.outer: set[str] = set()
        """Names declared global or nonlocal."""

    def find(self, name: str) -> Value | None:
        """The value of a name; None if it is not bound."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.around
        return None

    def bind(self, name: str, value: Value) -> None:
        """Bind a name here, or where `global` or `nonlocal` says."""
        scope: Scope = self
        if name in self.outer:
            while scope.around is not None and name not in scope.around.names:
                scope = scope.around
            scope = scope.around or scope
        scope.names[name] = value


def const(value: Value | None) -> Any:
    """The constant; None for anything else."""
    return value.value if isinstance(value, Const) else None


def is_none(value: Value | None) -> bool:
    """Whether nothing or None was given."""
    return value is None or (isinstance(value, Const) and value.value is None)


def texts(value: Value | None) -> set[str] | None:
    """The strings of a list, or the one string; None if they are not known."""
    if isinstance(value, Const):
        return {value.value} if isinstance(value.value, str) else set()
    if isinstance(value, Items) and not value.open and all(isinstance(one, Const) for one in value.items):
        return {str(const(one)) for one in value.items}
    return None


Given = Mapping[str, Value]


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
