"""Methods of dictionaries, lists and texts."""

from __future__ import annotations

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.values import Const, Items, Made, Table, Value, const


def table_method(table: Table, name: str, given: Given) -> Value:
    """What a method of a dictionary gives, and does to it."""
    key = given.positional[0] if given.positional else None
    match name:
        case "get" | "pop" if isinstance(key, Const):
            if key.value in table.items:
                return table.items[key.value]
            if table.open:
                return Value()
            return given.positional[1] if len(given.positional) > 1 else Const(None)
        case "update":
            table.items |= key.items if isinstance(key, Table) else {}
            table.items |= given.named
            table.open |= key is not None and not isinstance(key, Table)
        case "copy":
            return Table(dict(table.items), table.open)
        case "setdefault" if isinstance(key, Const):
            return table.items.setdefault(key.value, given.positional[1] if len(given.positional) > 1 else Const(None))
    return Value()


def items_method(items: Items, name: str, given: Given) -> Value:
    """What a method of a list gives, and does to it."""
    if name == "append" and given.positional:
        items.items.append(given.positional[0])
    elif name in ("extend", "insert", "remove", "pop", "clear"):
        items.open = True
    return Const(None) if name in ("append", "extend") else Value()


def text_method(text: Const, name: str, given: Given) -> Value:
    """What a method of a text gives."""
    if name in ("lower", "upper", "strip", "title") and not given.positional:
        return Const(getattr(text.value, name)(), default=text.default)
    if name in ("startswith", "endswith") and isinstance(const(given.get(0, "prefix")), str):
        return Const(getattr(text.value, name)(const(given.get(0, "prefix"))), default=text.default)
    if name in ("open", "read_text"):
        return Made("file", {"path": text}, given.place)
    return Value()
