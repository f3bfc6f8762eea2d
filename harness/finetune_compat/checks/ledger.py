"""The known issues: what one is, how it shows, and which of them a cell of some versions must show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, ClassVar

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from finetune_compat.checks import Deviation, Symptom
from finetune_compat.checks.codes import DEEP_CHECKS
from finetune_compat.checks.harm import Harm, harm
from finetune_compat.contract.records import Area, DeviceKind, Precision, Stage, Variant
from finetune_compat.contract.verdict import Kind

if TYPE_CHECKING:
    from pydantic import ConfigDict

_STRICT: ConfigDict = {"extra": "forbid"}

FREEZING = ("C103", "C104", "C105")
"""Checks that fail because something froze. Their signatures name the call chain that did. One of `ENDING` names it if
something froze before the error.
"""


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


@cache  # every cell asks, and there are few versions and few windows
def _within(version: str | None, window: str) -> bool:
    return version is not None and SpecifierSet(window).contains(version, prereleases=True)


@cache
def _version(text: str) -> Version:
    return Version(text)
