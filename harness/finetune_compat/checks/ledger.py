"""The ledger of known issues: reads and validates `matrices/known-issues.toml`, and finds the issues of a cell."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from finetune_compat.checks import Deviation, Symptom
from finetune_compat.checks.codes import CODES
from finetune_compat.contract.catalog import CATALOG, MODELS
from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.contract.records import REPORTED, DeviceKind, Precision, Variant
from finetune_compat.machine.places import places


class Kind(StrEnum):
    """The cause of a deviation: a library or the platform."""

    UPSTREAM = "upstream"
    """A library's behaviour on every machine."""
    PLATFORM = "platform"
    """A limit or a difference of this kind of machine."""


_STRICT = ConfigDict(extra="forbid")


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The cells in which an issue appears, and its evidence. Empty `precisions` and `models` mean all.

    `error` alone: the flow ends with this error. `symptom` alone: it ends without an error, with this symptom. Both:
    with one or the other. Neither: it ends without an error.
    """

    windows: dict[str, str]
    """Version specifier by distribution name; all must match."""
    flows: tuple[str, ...]
    check: str
    """Code of the check that fails."""
    precisions: tuple[Precision, ...] = ()
    models: tuple[str, ...] = ()
    gradient_checkpointing: bool | None = None
    device: DeviceKind | None = None
    feature: str | None = None
    frame: str | None = None
    called_from: str | None = None
    error: str | None = None
    symptom: Symptom | None = None

    def takes_in(self, flow: str, variant: Variant, device: DeviceKind, versions: Mapping[str, str]) -> bool:
        """Whether a cell of these versions should show this signature."""
        return (
            flow in self.flows
            and (not self.models or variant.model in self.models)
            and self.gradient_checkpointing in (None, variant.gradient_checkpointing)
            and self.holds(variant.precision, device, versions)
        )

    def holds(self, precision: Precision, device: DeviceKind, versions: Mapping[str, str]) -> bool:
        """Whether the signature is listed for these versions, regardless of flow and model."""
        return (
            (not self.precisions or precision in self.precisions)
            and self.device in (None, device)
            and all(_within(versions.get(name), window) for name, window in self.windows.items())
        )


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One known issue: what it is, its cause, the remedy, and all its signatures."""

    id: str
    title: str
    kind: Kind
    link: str
    """URL of the upstream report, or the section of our evidence with a reproduction if there is no report."""
    cause: str
    remedy: str
    shows: tuple[Signature, ...]
    fixed_by: str | None = None

    def deviation(self, signature: Signature) -> Deviation:
        """The part of a signature that the judge compares with an observation."""
        return Deviation(
            issue=self.id,
            title=self.title,
            link=self.link,
            kind=self.kind,
            check=signature.check,
            frame=signature.frame,
            called_from=signature.called_from,
            error=signature.error,
            symptom=signature.symptom,
            feature=signature.feature,
        )


@with_config(_STRICT)
@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All known issues."""

    issues: tuple[Issue, ...]

    @cached_property
    def _by_flow(self) -> Mapping[str, Sequence[tuple[Signature, Deviation]]]:
        """Signatures by flow. Indexed, because every cell of a run asks, and most signatures are for other flows."""
        found: dict[str, list[tuple[Signature, Deviation]]] = {}
        for issue in self.issues:
            for signature in issue.shows:
                for flow in dict.fromkeys(signature.flows):
                    found.setdefault(flow, []).append((signature, issue.deviation(signature)))
        return found

    def listed(
        self, flow: str, variant: Variant, device: DeviceKind, versions: Mapping[str, str]
    ) -> tuple[Deviation, ...]:
        """Deviations that a cell of these versions must show. The judge compares device features."""
        return tuple(
            deviation
            for signature, deviation in self._by_flow.get(flow, ())
            if signature.takes_in(flow, variant, device, versions)
        )


@with_config(_STRICT)
@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    issue: tuple[Issue, ...] = ()


@cache  # every cell asks, and there are few versions and few windows
def _within(version: str | None, window: str) -> bool:
    return version is not None and SpecifierSet(window).contains(version, prereleases=True)


def load_ledger(path: Path | None = None) -> Ledger:
    """The ledger in `path`. Default: the ledger of `places()`.

    Raises:
        MatrixError: the file is missing, not TOML, or invalid. The error lists every fault with its place.
    """
    path = path or places().ledger
    todo = "Correct the file and run again; docs/extending.md describes the fields."
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        issues = TypeAdapter(_File).validate_python(raw).issue
    except OSError as error:
        raise MatrixError(str(path), (Fault("", f"cannot be read: {error.strerror}"),), todo=todo) from None
    except UnicodeDecodeError as error:
        raise MatrixError(str(path), (Fault("", f"not UTF-8: {error}"),), todo=todo) from None
    except tomllib.TOMLDecodeError as error:
        raise MatrixError(str(path), (Fault("", f"not TOML: {error}"),), todo=todo) from None
    except ValidationError as error:
        faults = tuple(Fault(_place(item["loc"]), item["msg"]) for item in error.errors())
        raise MatrixError(str(path), faults, todo=todo) from None
    faults = tuple(_faults(issues))
    if faults:
        raise MatrixError(str(path), faults, todo=todo)
    return Ledger(issues=issues)


def _place(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _faults(issues: tuple[Issue, ...]) -> list[Fault]:
    """Faults of a well-formed file: unknown names, invalid windows, missing evidence."""
    faults = []
    for i, issue in enumerate(issues):
        if [other.id for other in issues].index(issue.id) != i:
            faults.append(Fault(f"issue[{i}].id", f"{issue.id!r} is used twice"))
        if not issue.shows:
            faults.append(Fault(f"issue[{i}].shows", "has no signature: the issue would apply nowhere"))
        for j, signature in enumerate(issue.shows):
            faults += [Fault(f"issue[{i}].shows[{j}].{at}", problem) for at, problem in _signature_faults(signature)]
    return faults


def _signature_faults(signature: Signature) -> list[tuple[str, str]]:
    flows = {flow.name for flow in CATALOG}
    faults = [("flows", f"there is no flow {name!r}") for name in signature.flows if name not in flows]
    faults += [] if signature.flows else [("flows", "names no flow: the entry would apply nowhere")]
    faults += [("models", f"there is no model {name!r}") for name in signature.models if name not in MODELS]
    if signature.check not in CODES:
        faults.append(("check", f"there is no check {signature.check!r}"))
    if not (signature.frame or signature.called_from or signature.error or signature.symptom):
        faults.append(("check", "no evidence to look for: name a frame, called_from, an error or a symptom"))
    empty = [name for name in ("frame", "called_from", "error", "feature") if getattr(signature, name) == ""]
    faults += [(name, "is empty: it would match everything") for name in empty]
    if signature.symptom in (Symptom.ERROR, Symptom.UNKNOWN):
        faults.append(("symptom", f"{signature.symptom} is not a valid symptom here; name an error with `error`"))
    for name, window in signature.windows.items():
        if name not in REPORTED:
            faults.append(
                (f"windows.{name}", f"observations do not record {name!r}; they record {', '.join(REPORTED)}")
            )
        try:
            SpecifierSet(window)
        except InvalidSpecifier:
            faults.append(
                (f"windows.{name}", f"{window!r} is not a valid version specifier (such as >=0.20.0,<0.23.1)")
            )
    return faults
