"""The ledger of known issues: reads and validates `matrices/known-issues.toml`, and finds the issues of a cell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from finetune_compat.checks import Deviation, Symptom
from finetune_compat.checks.codes import CODES, DEEP_CHECKS, ENDING
from finetune_compat.checks.harm import Harm, harm
from finetune_compat.checks.measures import MEASURES
from finetune_compat.contract.catalog import CATALOG, MODELS
from finetune_compat.contract.errors import Fault, MatrixError
from finetune_compat.contract.records import REPORTED, Area, DeviceKind, Precision, Stage, Variant
from finetune_compat.contract.verdict import Kind
from finetune_compat.machine.foreign import parsed_toml, read_text
from finetune_compat.machine.places import places

if TYPE_CHECKING:
    from pydantic import ConfigDict

_STRICT: ConfigDict = {"extra": "forbid"}

MEASURED = "measured.json"
"""File with the measured releases, in the folder of the ledger. `compat keep` writes it."""

FREEZING = ("C103", "C104", "C105")
"""Checks that fail because something froze. Their signatures name the call chain that did. One of `ENDING` names it if
something froze before the error.
"""

_CHAIN = re.compile(r"[\w./-]+\.py::[\w<>]+( -> [\w./-]+\.py::[\w<>]+)*")
_PUBLIC = re.compile(r"[a-z]\w*(\.[A-Za-z]\w*)+")
_TYPED = re.compile(r"[A-Za-z_]\w*: .+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a named piece of library code is in some releases. Windows of places of one name do not overlap."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: str
    windows: dict[str, str]
    """Version specifier by distribution name; all must match."""
    chain: str
    """The call chain: `file::function`, the caller first, joined by ` -> `."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The cells in which an issue appears, and its evidence. Empty `precisions` and `models` mean all.

    `error` alone: the flow ends with this error. `symptom` alone: it ends without an error, with this symptom. Both:
    with one or the other. Neither: it ends without an error.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

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
    froze: str | None = None
    """The call chain that froze the parameters, or the name of a place."""
    error: str | None = None
    """Beginning of the error's `Type: message`."""
    raised: str | None = None
    """The call chain that raised the error, or the name of a place."""
    stage: Stage | None = None
    """The stage at which the error is raised."""
    symptom: Symptom | None = None
    area: Area | None = None
    """Area of the tensors that the check names: exactly the tensors of this area."""
    measured: float | None = None
    """The value that the check measures (`checks.measures`)."""
    apart: float | None = None
    """In place of `measured` where the accumulated gradient is no multiple of the plain one: how far apart they are
    (`checks.measures.gradients_apart`).
    """

    @property
    def harm(self) -> Harm:
        """What it does to a training. With an error and a symptom a run may end either way; the silent one counts."""
        return harm(self.check, self.symptom)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """A script in `tests/exam/issues/` that shows an issue, and on which releases. It applies to no cell.

    Where the issue is, the script ends with the listed error. Elsewhere it ends with status 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    windows: dict[str, str]
    """Version specifier by distribution name; all must match."""
    script: str
    """Its name without `.py`."""
    error: str
    """Beginning of the error's `Type: message`."""
    harm: Harm
    """What the issue does to a training."""


Way = Signature | Scripted
"""A way in which an issue shows: in cells, or in a script."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """One known issue: what it is, its cause, the remedy, and all ways in which it shows."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    id: str
    title: str
    kind: Kind
    link: str
    """URL of the upstream report, or the section of our evidence with a reproduction if there is no report."""
    cause: str
    remedy: str
    needs: str
    """What it needs besides the versions, one clause."""
    sees: str
    """What its user sees, one clause."""
    imports: tuple[str, ...]
    """The public names of libraries that code must use to be affected, such as `trl.SFTTrainer`."""
    shows: tuple[Signature, ...] = ()
    """The ways in which cells show it."""
    scripts: tuple[Scripted, ...] = ()
    """The ways in which scripts show it."""
    fixed_by: str | None = None

    @property
    def ways(self) -> tuple[Way, ...]:
        """All ways in which it shows. Measured edges and proofs name one by its place."""
        return (*self.shows, *self.scripts)

    @property
    def library(self) -> str:
        """The package of the first name that affected code uses."""
        return self.imports[0].partition(".")[0]

    def deviation(self, signature: Signature, froze: str | None, raised: str | None) -> Deviation:
        """The part of a signature that the judge compares with an observation. `froze` and `raised` are call chains."""
        return Deviation(
            issue=self.id,
            title=self.title,
            link=self.link,
            kind=self.kind,
            check=signature.check,
            froze=froze,
            error=signature.error,
            raised=raised,
            stage=signature.stage,
            symptom=signature.symptom,
            area=signature.area,
            measured=signature.measured,
            apart=signature.apart,
            feature=signature.feature,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A signature in the releases in which its places have one call chain each."""

    issue: Issue
    signature: Signature
    windows: tuple[Mapping[str, str], ...]
    """Windows of the places."""
    deviation: Deviation

    def in_place(self, versions: Mapping[str, str]) -> bool:
        """Whether the places are where `deviation` says in these versions."""
        return all(_within(versions.get(name), window) for windows in self.windows for name, window in windows.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The newest release of each package with which the committed baselines ran a flow: by flow, then by package."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    quick: Mapping[str, Mapping[str, str]]
    deep: Mapping[str, Mapping[str, str]]
    """The same for cells with the deep tier."""

    def beyond(self, flow: str, versions: Mapping[str, str], *, deep: bool) -> str:
        """The releases among `versions` that are newer than every measured one, as text; empty if there are none."""
        newest = (self.deep if deep else self.quick).get(flow)
        if newest is None:
            return "no baseline has the flow"
        newer = (
            f"{name} {versions[name]}, measured until {until}"
            for name, until in newest.items()
            if name in versions and _version(versions[name]) > _version(until)
        )
        return "; ".join(newer)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All known issues."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    issues: tuple[Issue, ...]
    places: tuple[Place, ...] = ()
    measured: Measured | None = None
    """None: every release counts as measured."""

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every signature, once for each combination of its places' windows."""
        return tuple(
            Entry(
                issue=issue,
                signature=signature,
                windows=(froze.windows, raised.windows),
                deviation=issue.deviation(signature, froze.chain or None, raised.chain or None),
            )
            for issue in self.issues
            for signature in issue.shows
            for froze in self._at(signature.froze)
            for raised in self._at(signature.raised)
        )

    def newest(self, package: str) -> str | None:
        """The newest measured release of `package`; None if none is known."""
        known = self.measured.quick.values() if self.measured else ()
        return max((newest[package] for newest in known if package in newest), key=_version, default=None)

    def _at(self, text: str | None) -> Iterator[Place]:
        """The places called `text`, or one that holds in every release if `text` is a call chain or None."""
        named = [place for place in self.places if place.name == text]
        yield from named or (Place(name="", windows={}, chain=text or ""),)

    @cached_property
    def _by_flow(self) -> Mapping[str, Sequence[Entry]]:
        """Entries by flow. Indexed, because every cell of a run asks, and most entries are for other flows."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            for flow in dict.fromkeys(entry.signature.flows):
                found.setdefault(flow, []).append(entry)
        return found

    def listed(
        self, flow: str, variant: Variant, device: DeviceKind, versions: Mapping[str, str]
    ) -> tuple[Deviation, ...]:
        """Deviations that a cell of these versions must show. The judge compares device features."""
        found = [
            entry.deviation
            for entry in self._by_flow.get(flow, ())
            if entry.signature.takes_in(flow, variant, device, versions) and entry.in_place(versions)
        ]
        beyond = {deep: self._beyond(flow, versions, deep=deep) for deep in (False, True)} if found else {}
        return tuple(
            replace(deviation, unmeasured=beyond[deviation.check in DEEP_CHECKS])
            if beyond[deviation.check in DEEP_CHECKS]
            else deviation
            for deviation in found
        )

    def _beyond(self, flow: str, versions: Mapping[str, str], *, deep: bool) -> str:
        return self.measured.beyond(flow, versions, deep=deep) if self.measured else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    issue: tuple[Issue, ...] = ()
    place: tuple[Place, ...] = ()


@cache  # every cell asks, and there are few versions and few windows
def _within(version: str | None, window: str) -> bool:
    return version is not None and SpecifierSet(window).contains(version, prereleases=True)


@cache
def _version(text: str) -> Version:
    return Version(text)


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
    faults = (*_place_faults(file.place), *_faults(file.issue, {place.name for place in file.place}))
    if faults:
        raise MatrixError(str(path), faults, todo=todo)
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


def _faults(issues: tuple[Issue, ...], places: AbstractSet[str]) -> list[Fault]:
    """Faults of a well-formed file: unknown names, invalid windows, missing evidence."""
    faults = []
    for i, issue in enumerate(issues):
        if [other.id for other in issues].index(issue.id) != i:
            faults.append(Fault(f"issue[{i}].id", f"{issue.id!r} is used twice"))
        if not issue.ways:
            faults.append(Fault(f"issue[{i}].shows", "no cell and no script shows it: the issue would apply nowhere"))
        faults += [Fault(f"issue[{i}].{field}", problem) for field, problem in _text_faults(issue)]
        for j, signature in enumerate(issue.shows):
            at = f"issue[{i}].shows[{j}]"
            found = (*_signature_faults(signature), *_evidence_faults(signature, places))
            faults += [Fault(f"{at}.{field}", problem) for field, problem in found]
        for j, scripted in enumerate(issue.scripts):
            at = f"issue[{i}].scripts[{j}]"
            faults += [Fault(f"{at}.{field}", problem) for field, problem in _script_faults(scripted)]
    return faults


def _script_faults(scripted: Scripted) -> Iterator[tuple[str, str]]:
    if not scripted.script.isidentifier():
        yield "script", f"{scripted.script!r} is not the name of a script in tests/exam/issues (without .py)"
    yield from _error_faults(scripted.error)
    yield from _window_faults(scripted.windows)


def _error_faults(error: str | None) -> Iterator[tuple[str, str]]:
    if error is not None and not _TYPED.fullmatch(error):
        yield "error", f"{error!r} does not begin with the type (such as ValueError: no labels)"


def _text_faults(issue: Issue) -> Iterator[tuple[str, str]]:
    """Texts that tables and advisories show in one line."""
    for field, text in (("title", issue.title), ("remedy", issue.remedy), ("needs", issue.needs), ("sees", issue.sees)):
        if not text.strip() or "\n" in text:
            yield field, "is empty or has more than one line"
    if not issue.imports:
        yield "imports", "names nothing that affected code uses (such as trl.SFTTrainer)"
    for name in issue.imports:
        if not _PUBLIC.fullmatch(name):
            yield "imports", f"{name!r} is not a public name of a library (such as trl.SFTTrainer)"


def _place_faults(places: tuple[Place, ...]) -> list[Fault]:
    faults = []
    for i, place in enumerate(places):
        found = _window_faults(place.windows)
        if not _CHAIN.fullmatch(place.chain):
            found.append(("chain", _no_chain(place.chain)))
        faults += [Fault(f"place[{i}].{field}", problem) for field, problem in found]
    return faults


def _no_chain(text: str) -> str:
    return f"{text!r} is not a call chain (such as trl/models/utils.py::prepare -> peft/utils/other.py::freeze)"


def _signature_faults(signature: Signature) -> list[tuple[str, str]]:
    flows = {flow.name for flow in CATALOG}
    faults = [("flows", f"there is no flow {name!r}") for name in signature.flows if name not in flows]
    faults += [] if signature.flows else [("flows", "names no flow: the entry would apply nowhere")]
    faults += [("models", f"there is no model {name!r}") for name in signature.models if name not in MODELS]
    if signature.feature == "":
        faults.append(("feature", "is empty: it would match everything"))
    if signature.symptom in (Symptom.ERROR, Symptom.UNKNOWN):
        faults.append(("symptom", f"{signature.symptom} is not a valid symptom here; name an error with `error`"))
    return faults + _window_faults(signature.windows)


def _evidence_faults(signature: Signature, places: AbstractSet[str]) -> list[tuple[str, str]]:
    """A signature must say enough to be told from another fault of the same check."""
    if signature.check not in CODES:
        return [("check", f"there is no check {signature.check!r}")]
    faults = []
    if not (signature.error or signature.symptom):
        faults.append(("check", "no ending to look for: name an error or a symptom"))
    faults += _error_faults(signature.error)
    if (signature.error is None) != (signature.raised is None):
        faults.append(("raised", "an error needs the call chain that raised it, and only an error has one"))
    if (signature.error is None) != (signature.stage is None):
        faults.append(("stage", "an error needs the stage at which it is raised, and only an error has one"))
    if signature.check in FREEZING and signature.froze is None:
        faults.append(("froze", f"{', '.join(FREEZING)} need the call chain that froze"))
    if signature.froze is not None and signature.check not in (*FREEZING, ENDING):
        faults.append(("froze", f"only {', '.join(FREEZING)} and {ENDING} have a call chain that froze"))
    if signature.apart is not None and (signature.check != "G402" or signature.measured is not None):
        faults.append(("apart", "only G402 has it, in place of the measured value"))
    elif signature.apart is None and (signature.check in MEASURES) != (signature.measured is not None):
        faults.append(("measured", f"{', '.join(MEASURES)} need the measured value, and only they have one"))
    if (signature.check == "G401") != (signature.area is not None):
        faults.append(("area", "G401 needs the area without gradients, and only it has one"))
    chains = (("froze", signature.froze), ("raised", signature.raised))
    faults += [
        (field, f"there is no place {text!r}, and {_no_chain(text)}")
        for field, text in chains
        if text is not None and text not in places and not _CHAIN.fullmatch(text)
    ]
    return faults


def _window_faults(windows: Mapping[str, str]) -> list[tuple[str, str]]:
    faults = []
    for name, window in windows.items():
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
