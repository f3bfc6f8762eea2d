"""Reads the known issues of `matrices/known-issues.toml`, and the measured releases beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from finetune_compat.checks import Symptom
from finetune_compat.checks.harm import Harm
from finetune_compat.checks.ledger import Issue, Ledger, Measured, Place, Scripted, Signature
from finetune_compat.checks.ledger_faults import ledger_faults
from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.contract.records import Area, DeviceKind, Precision, Stage
from finetune_compat.contract.verdict import Kind
from finetune_compat.machine.foreign import parsed_toml, read_text
from finetune_compat.machine.places import places

if TYPE_CHECKING:
    from pydantic import ConfigDict

MEASURED = "measured.json"
"""File with the measured releases, in the folder of the ledger. `compat keep` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}
    issue: tuple[Issue, ...] = ()
    place: tuple[Place, ...] = ()


def load_ledger(path: Path | None = None) -> Ledger:
    """The ledger in `path`, with the measured releases in the file `measured.json` beside it. Default: the ledger of
    `places()`. Without that file, every release counts as measured.

    Raises:
        MatrixError: the file is missing, not TOML, or invalid. The error lists every fault with its place.
    """
    # Pydantic takes longer to import than a command needs that only looks issues up: `shipped_ledger`.
    from pydantic import TypeAdapter, ValidationError

    path = path or places().ledger
    todo = "Correct the file and run again; docs/extending.md describes the fields."
    try:
        file = TypeAdapter(_File).validate_python(parsed_toml(read_text(path)))
    except OSError as error:
        raise MatrixError(str(path), (Fault("", f"cannot be read: {error.strerror}"),), todo=todo) from None
    except ValidationError as error:
        faults = tuple(Fault(_place(item["loc"]), item["msg"]) for item in error.errors())
        raise MatrixError(str(path), faults, todo=todo) from None
    except UnicodeDecodeError as error:
        raise MatrixError(str(path), (Fault("", f"not UTF-8: {error}"),), todo=todo) from None
    except ValueError as error:
        raise MatrixError(str(path), (Fault("", str(error).removeprefix("is ")),), todo=todo) from None
    found = ledger_faults(file.issue, file.place)
    if found:
        raise MatrixError(str(path), tuple(found), todo=todo)
    return Ledger(issues=file.issue, places=file.place, measured=_measured(path.with_name(MEASURED), todo))


def shipped_ledger() -> Ledger:
    """The ledger of `places()`, as `load_ledger` reads it, in a third of the time: nothing is validated.

    Raises:
        MatrixError: the file is missing or invalid.
    """
    path = places().ledger
    try:
        raw = parsed_toml(read_text(path))
        measured = path.with_name(MEASURED)
        return Ledger(
            issues=tuple(_issue(issue) for issue in raw["issue"]),
            places=tuple(Place(**place) for place in raw["place"]),
            measured=Measured(**json.loads(measured.read_bytes())) if measured.exists() else None,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return load_ledger()  # says what is wrong


def _issue(raw: Mapping[str, Any]) -> Issue:
    shows = tuple(_signature(signature) for signature in raw.get("shows", ()))
    scripts = tuple(Scripted(**{**one, "harm": Harm(one["harm"])}) for one in raw.get("scripts", ()))
    known = {"kind": Kind(raw["kind"]), "imports": tuple(raw["imports"]), "shows": shows, "scripts": scripts}
    return Issue(**{**raw, **known})


_READ: Mapping[str, Callable[[Any], Any]] = {
    "flows": tuple,
    "models": tuple,
    "precisions": lambda names: tuple(map(Precision, names)),
    "device": DeviceKind,
    "stage": Stage,
    "symptom": Symptom,
    "area": Area,
}
"""Fields of a signature whose type TOML does not have."""


def _signature(raw: Mapping[str, Any]) -> Signature:
    return Signature(**{name: _READ[name](value) if name in _READ else value for name, value in raw.items()})


def _measured(path: Path, todo: str) -> Measured | None:
    from pydantic import TypeAdapter, ValidationError

    if not path.exists():
        return None
    try:
        return TypeAdapter(Measured).validate_json(path.read_bytes())
    except ValidationError as error:
        faults = tuple(Fault(_place(item["loc"]), item["msg"]) for item in error.errors())
        raise MatrixError(str(path), faults, todo=todo) from None


def _place(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
