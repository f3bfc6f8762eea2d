"""Options of scripts, with their defaults: of `argparse`, and of parsers of dataclasses."""

from __future__ import annotations

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.classes import fields_of, softened
from finetune_compat.audit.names import canonical
from finetune_compat.audit.values import Class, Const, External, Items, Made, Table, Value, const


def parser_method(made: Made, name: str, given: Given) -> Value:
    """What a method of `argparse.ArgumentParser` gives. The parser keeps the defaults of its options."""
    if name == "add_argument":
        names = [const(one) for one in given.positional]
        flags = [text for text in names if isinstance(text, str)]
        if flags:
            long = next((text for text in flags if text.startswith("--")), flags[0])
            to = const(given.named.get("dest")) or long.lstrip("-").replace("-", "_")
            made.given[str(to)] = _option(given)
    elif name == "set_defaults":
        made.given |= {key: Const(const(value), default=True) for key, value in given.named.items()}
    elif name in ("add_argument_group", "add_mutually_exclusive_group"):
        return made
    elif name == "parse_args":
        return Table({key: value for key, value in made.given.items() if key != "description"}, open=True)
    elif name == "parse_known_args":
        return Items([Table(dict(made.given), open=True), Value()])
    return Value()


def _option(given: Given) -> Value:
    action = const(given.named.get("action"))
    if action in ("store_true", "store_false"):
        return Const(action == "store_false", default=True)
    default = given.named.get("default")
    if isinstance(default, Const) and default.value is not None:
        return Const(default.value, default=True)
    return Value()


def parsed_dataclasses(made: Made, name: str) -> Value:
    """The objects that `HfArgumentParser` and `TrlParser` make of their dataclasses. `name` is the method."""
    types = made.positional[0] if made.positional else made.given.get("dataclass_types", Value())
    each = types.items if isinstance(types, Items) else [types]
    objects = [_options(one, made) for one in each]
    if "config" in name or "remaining" in name:
        objects += [Value()] if "remaining" in name else []
    return Items(objects)


def _options(of: Value, made: Made) -> Value:
    """An object that a parser makes of a dataclass: with its defaults."""
    if isinstance(of, Class):
        fields = {name: softened(value) for name, value in fields_of(of).items()}
        base = of.library_base
        return Made(canonical(base), fields, made.place, open=True) if base else Table(fields, open=True)
    if isinstance(of, External):
        return Made(canonical(of.name), {}, made.place, open=True)
    return Value()
