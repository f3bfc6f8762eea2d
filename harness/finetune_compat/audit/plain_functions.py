"""Plain functions that scripts call by name: built-in ones, and those of modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path as File
from typing import Protocol

from finetune_compat.audit.arguments import Given
from finetune_compat.audit.config_files import STEPS_OF_A_FILE, value_of_file, value_of_text
from finetune_compat.audit.interpreter import Ended, Path
from finetune_compat.audit.names import canonical
from finetune_compat.audit.operations import LONGEST
from finetune_compat.audit.signatures import Signatures
from finetune_compat.audit.values import Const, External, Items, Made, Parameters, Table, Value, const


class Known(Protocol):
    """What is known of the project."""

    signatures: Signatures
    versions: Mapping[str, str]
    root: File


def _getattr(_: Known, path: Path, given: Given) -> Value:
    of, name = given.get(0, "object"), const(given.get(1, "name"))
    if of is None or not isinstance(name, str):
        return Value()
    return path.attribute(of, name)


def _setattr(_: Known, path: Path, given: Given) -> Value:
    of, name, value = given.get(0, "object"), const(given.get(1, "name")), given.get(2, "value")
    if of is not None and isinstance(name, str) and value is not None:
        path.assign(of, name, value, given.place)
    return Const(None)


def _has(known: Known, path: Path, given: Given) -> Value:
    of, name = given.get(0, "object"), const(given.get(1, "name"))
    if isinstance(of, External) and of.name in known.versions and isinstance(name, str):
        found = known.signatures.has_name(of.name, name, known.versions[of.name])
        return Value() if found is None else Const(found)
    return Value()


def _dict(_: Known, path: Path, given: Given) -> Value:
    base = given.positional[0] if given.positional else None
    items = dict(base.items) if isinstance(base, Table) else {}
    return Table({**items, **given.named}, given.open or (base is not None and not isinstance(base, Table)))


def _open(_: Known, path: Path, given: Given) -> Value:
    return Made("file", {"path": given.get(0, "file") or Value()}, given.place)


def _load(known: Known, path: Path, given: Given) -> Value:
    """A YAML or JSON file of the project, as a table."""
    source = given.get(0, "stream")
    name = source.given.get("path") if isinstance(source, Made) and source.name == "file" else source
    text = const(name)
    if not isinstance(text, str):
        return Table({}, open=True)
    path.steps += STEPS_OF_A_FILE
    if "\n" in text or text.lstrip().startswith("{"):
        return value_of_text(text)
    places = [File(text), known.root / text, given.place.source.path.parent / text]
    file = next((place for place in places if place.is_file() and place.resolve().is_relative_to(known.root)), None)
    return value_of_file(file) if file is not None else Table({}, open=True)


def _first(_: Known, path: Path, given: Given) -> Value:
    return given.positional[0] if given.positional else Value()


def _joined(_: Known, path: Path, given: Given) -> Value:
    parts = [const(one) for one in given.positional]
    known = parts and all(isinstance(part, str) for part in parts) and sum(map(len, parts)) < LONGEST
    return Const("/".join(parts)) if known else Value()


def _version(_: Known, path: Path, given: Given) -> Value:
    return Made("version", {}, given.place, (given.get(0, "version") or Value(),))


def _installed(known: Known, path: Path, given: Given) -> Value:
    name = const(given.get(0, "distribution_name"))
    return Const(known.versions[name]) if name in known.versions else Value()


def _signature(_: Known, path: Path, given: Given) -> Value:
    of = given.get(0, "obj")
    name = of.name.removesuffix(".__init__") if isinstance(of, External) else ""
    named = Made("signature", {}, given.place, (Const(canonical(name)),))
    named.given["parameters"] = named
    return named


def _converted(kind: Callable[[object], object]) -> Callable[[Known, Path, Given], Value]:
    def convert(_: Known, path: Path, given: Given) -> Value:
        value = given.positional[0] if given.positional else Value()
        try:
            return Const(kind(value.value), default=value.default) if isinstance(value, Const) else Value()
        except (TypeError, ValueError, OverflowError):
            return Value()

    return convert


def _listed(_: Known, path: Path, given: Given) -> Value:
    value = given.positional[0] if given.positional else Items([])
    return value if isinstance(value, Items | Parameters) else Items([], open=True)


def _exit(_: Known, path: Path, given: Given) -> Value:
    raise Ended


def _length(_: Known, path: Path, given: Given) -> Value:
    value = given.positional[0] if given.positional else None
    return Const(len(value.items)) if isinstance(value, Items) and not value.open else Value()


def _some(_: Known, path: Path, given: Given) -> Value:
    """`filter(lambda p: p.requires_grad, model.parameters())`."""
    value = given.get(1, "iterable")
    return value if isinstance(value, Parameters) else Items([], open=True)


PLAIN: Mapping[str, Callable[[Known, Path, Given], Value]] = {
    "getattr": _getattr,
    "setattr": _setattr,
    "hasattr": _has,
    "dict": _dict,
    "open": _open,
    "str": _converted(str),
    "int": _converted(int),  # type: ignore[arg-type]
    "float": _converted(float),  # type: ignore[arg-type]
    "bool": _converted(bool),
    "list": _listed,
    "tuple": _listed,
    "set": _listed,
    "sorted": _listed,
    "filter": _some,
    "len": _length,
    "exit": _exit,
    "quit": _exit,
    "sys.exit": _exit,
    "yaml.safe_load": _load,
    "yaml.load": _load,
    "yaml.full_load": _load,
    "json.load": _load,
    "json.loads": _load,
    "omegaconf.OmegaConf.load": _load,
    "omegaconf.OmegaConf.create": _first,
    "pathlib.Path": _first,
    "os.join": _joined,
    "packaging.Version": _version,
    "packaging.parse": _version,
    "importlib.version": _installed,
    "importlib_metadata.version": _installed,
    "inspect.signature": _signature,
    "copy.copy": _first,
    "copy.deepcopy": _first,
}
"""By their names in `names.canonical`."""
