"""`matrices/stacks.toml` as frozen values: the stacks, and the inputs of the resolver for each of them.

The file is validated once, when it is read. All of its faults are reported together, each with its path
(`axes[0].stacks[3].pin`). The values that `read_matrix` returns are valid, and are not checked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, Strict, TypeAdapter, ValidationError

from finetune_compat.contract.errors import Fault, MatrixError, UnknownName
from finetune_compat.contract.records import DeviceKind
from finetune_compat.machine.foreign import parsed_toml, read_text
from finetune_compat.machine.places import places

_T = TypeVar("_T")


# ------------------------------------------------------------------------------------------------------ parsed values


@dataclass(frozen=True, slots=True)
class Exemption:
    """A package that may be newer than the row's `as_of`, up to `until`, and the reason. `device` None: all devices."""

    package: str
    until: date
    why: str
    device: DeviceKind | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """One row of the matrix: a pinned package, and the day as of which the other packages are resolved."""

    package: str
    """The pinned package, whose axis the row is on. Empty if nothing is pinned: `latest` is what an index gives."""
    label: str
    pin: str
    """The pinned version; empty if nothing is pinned."""
    released: date
    as_of: date
    """The day of the other packages: the later of `released` and the floor, unless the row sets its own."""
    why: str
    """Why the row sets its own `as_of`; empty if it does not."""
    pythons: tuple[str, ...]
    prereleases: bool = False
    """Whether the resolver may choose pre-releases."""

    @property
    def name(self) -> str:
        """The name without a Python version, for example `trl0.22`."""
        return f"{self.package}{self.label}"

    @property
    def pinned(self) -> str:
        """The pin as a requirement, for example `trl==0.22.2`; empty if nothing is pinned."""
        return f"{self.package}=={self.pin}" if self.package else ""

    def session(self, python: str) -> str:
        """The nox session on `python`, for example `compat-3.11(trl='0.22')`."""
        return f"compat-{python}({self.parameter})"

    @property
    def parameter(self) -> str:
        """The session's parameter as nox shows it, for example `trl='0.22'` or `stack='latest'`."""
        return f"{self.package or 'stack'}='{self.label}'"

    def on(self, python: str) -> str:
        """The name with a Python version, for example `trl0.22-py311`: the `stack` of every cell id."""
        return f"{self.name}-py{python.replace('.', '')}"


@dataclass(frozen=True, slots=True)
class LockPlan:
    """All inputs of the resolver for one lock. Equal plans give the same lock."""

    name: str
    """File name without suffix, for example `trl0.9-py311-cuda`."""
    stack: Stack
    python: str
    device: DeviceKind
    as_of: date
    requirements: tuple[str, ...]
    torch: str
    exempt: Mapping[str, date]
    """Last permitted day by package, for packages that may be newer than `as_of`."""
    excluded: tuple[str, ...]
    """torch's platform layer: never resolved, never locked."""
    platform: str
    constraints: tuple[str, ...] = ()
    """Constraints for packages that the resolver may need; only for stacks that are not in the matrix."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace all others on their packages; only for stacks that are not in the matrix."""
    preferences: tuple[str, ...] = ()
    """Pins that the resolver keeps unless something requires another version; only for stacks that are not in the
    matrix.
    """
    wheels: tuple[Path, ...] = ()
    """Folders of wheels that this machine built, for packages that the index has no wheel of."""
    again: str = ""
    """The command that makes the lock again; empty for a row of the matrix, where it is `nox -s lock`."""
    prereleases: bool = False
    """Whether the resolver may choose pre-releases."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """The whole file, validated."""

    torch: str
    torch_platform: tuple[str, ...]
    floor: date
    packages: tuple[str, ...]
    tools: tuple[str, ...]
    platform: str
    exemptions: tuple[Exemption, ...]
    stacks: tuple[Stack, ...]
    since: Mapping[str, Version]
    """The first minor of an axis of which `compat refresh` adds every minor, by package."""
    without: Mapping[str, Mapping[str, str]]
    """The minors that `compat refresh` does not add, with the reasons, by package."""
    cool_down_days: int
    """Days after its upload before `compat refresh` adds a release as a row."""

    @property
    def pythons(self) -> tuple[str, ...]:
        """Every Python version that a row runs on, oldest first."""
        return tuple(sorted({python for stack in self.stacks for python in stack.pythons}, key=Version))

    def stack(self, name: str) -> Stack:
        """The stack called `name`, such as `trl0.22`.

        Raises:
            UnknownName: no row has that name.
        """
        for stack in self.stacks:
            if stack.name == name:
                return stack
        near = get_close_matches(name, [stack.name for stack in self.stacks], n=3, cutoff=0.6)
        raise UnknownName(
            f"there is no stack {name!r}",
            where=places().shown(places().stacks),
            meaning=f"Names that look like it: {', '.join(near)}." if near else "No name looks like it.",
            todo="`compat stacks` lists all of them.",
        )

    def plan(self, stack: Stack, python: str, device: DeviceKind = DeviceKind.CPU) -> LockPlan:
        """The plan of `stack` on `python` for `device`. A GPU has its own only if its inputs differ from the CPU's."""
        cpu = self._plan(stack, python, DeviceKind.CPU)
        cuda = self._plan(stack, python, DeviceKind.CUDA)
        differs = (cpu.as_of, cpu.exempt) != (cuda.as_of, cuda.exempt)
        return cuda if device is DeviceKind.CUDA and differs else cpu

    def plans(self, stack: Stack) -> tuple[LockPlan, ...]:
        """All locks of `stack`, without duplicates."""
        every = [self.plan(stack, python, device) for python in stack.pythons for device in DeviceKind]
        return tuple({plan.name: plan for plan in every}.values())

    def _plan(self, stack: Stack, python: str, device: DeviceKind) -> LockPlan:
        gpu = device is DeviceKind.CUDA
        # A row's own `as_of` holds on every device; the floor is for CPUs only.
        as_of = stack.released if gpu and not stack.why else stack.as_of
        pinned = [f"{name}=={stack.pin}" if name == stack.package else name for name in self.packages]
        return LockPlan(
            name=stack.on(python) + ("-cuda" if gpu else ""),
            stack=stack,
            python=python,
            device=device,
            as_of=as_of,
            requirements=(*pinned, *self.tools),
            torch=self.torch,
            exempt={
                item.package: item.until
                for item in self.exemptions
                if item.device in (None, device) and item.until > as_of
            },
            excluded=self.torch_platform,
            platform=self.platform,
            prereleases=stack.prereleases,
        )


# --------------------------------------------------------------------------------------------------------- validation


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion:
        raise ValueError(f"{text!r} is not a version such as '0.22.2'") from None
    return text


def _python(text: str) -> str:
    if not re.fullmatch(r"3\.[0-9]{1,2}", text):
        raise ValueError(f"{text!r} is not a Python such as '3.11'")
    return text


def _package(text: str) -> str:
    if canonicalize_name(text) != text or not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text):
        raise ValueError(f"{text!r} is not a package name in its canonical form, such as 'huggingface-hub'")
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z]+", text):
        raise ValueError(f"{text!r} is not a name such as 'latest'")
    return text


def _minor(text: str) -> str:
    if not re.fullmatch(r"[0-9]+\.[0-9]+", text):
        raise ValueError(f"{text!r} is not a minor version such as '4.46'")
    return text


def _days(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is not a number of days")
    return number


def _label(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        raise ValueError(f"{text!r} is not a label such as '0.22' or '0.22.0'")
    return text


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; it must state a reason")
    return text


def _filled(items: tuple[_T, ...]) -> tuple[_T, ...]:
    if not items:
        raise ValueError("is empty")
    return items


_Version = Annotated[str, AfterValidator(_version)]
_Python = Annotated[str, AfterValidator(_python)]
_Package = Annotated[str, AfterValidator(_package)]
_Label = Annotated[str, AfterValidator(_label)]
_Name = Annotated[str, AfterValidator(_name)]
_Minor = Annotated[str, AfterValidator(_minor)]
_Days = Annotated[int, Strict(), AfterValidator(_days)]
_Reason = Annotated[str, AfterValidator(_reason)]
_Day = Annotated[date, Strict()]
_Packages = Annotated[tuple[_Package, ...], AfterValidator(_filled)]
_Pythons = Annotated[tuple[_Python, ...], AfterValidator(_filled)]
_FORBID: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class _Torch:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    version: _Version
    platform: _Packages


@dataclass(frozen=True, slots=True)
class _Resolve:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    floor: _Day
    packages: _Packages
    tools: _Packages
    platform: _Reason
    pythons: _Pythons


@dataclass(frozen=True, slots=True)
class _Exempt:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    package: _Package
    until: _Day
    why: _Reason
    device: DeviceKind | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    pin: _Version
    released: _Day
    label: _Label | None = None
    as_of: _Day | None = None
    why: _Reason | None = None
    pythons: _Pythons | None = None


@dataclass(frozen=True, slots=True)
class _Axis:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    package: _Package
    stacks: Annotated[tuple[Any, ...], AfterValidator(_filled)]
    since: _Minor | None = None
    without: Mapping[_Minor, _Reason] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Unpinned:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    name: _Name
    as_of: _Day
    why: _Reason
    pythons: _Pythons | None = None
    prereleases: bool = False


@dataclass(frozen=True, slots=True)
class _Refresh:
    __pydantic_config__: ClassVar[dict[str, Any]] = _FORBID
    cool_down_days: _Days


_TORCH = TypeAdapter(_Torch)
_RESOLVE = TypeAdapter(_Resolve)
_EXEMPT = TypeAdapter(_Exempt)
_ROW = TypeAdapter(_Row)
_AXIS = TypeAdapter(_Axis)
_UNPINNED = TypeAdapter(_Unpinned)
_REFRESH = TypeAdapter(_Refresh)

_KEYS = {"torch": True, "resolve": True, "axes": True, "exempt": False, "unpinned": False, "refresh": False}
"""The file's tables, and whether each is required."""


@dataclass(frozen=True, slots=True)
class _Located(Generic[_T]):
    """A parsed value and its place in the file."""

    path: str
    value: _T


@dataclass(frozen=True, slots=True)
class _Parts:
    """The valid parts of the file. A part with a fault is left out."""

    torch: _Torch | None
    resolve: _Resolve | None
    exempt: tuple[_Located[_Exempt], ...]
    axes: tuple[_Located[_Axis], ...]
    rows: tuple[tuple[str, _Located[_Row]], ...]
    """Each with the package of its axis."""
    unpinned: tuple[_Located[_Unpinned], ...]
    refresh: _Refresh | None


def read_matrix(path: Path | None = None) -> Matrix:
    """The matrix in `path`; by default that of `places()`.

    Raises:
        MatrixError: the file is missing, is not TOML, or has invalid values; lists every fault.
    """
    path = path or places().stacks
    where = places().shown(path)
    try:
        data = parsed_toml(read_text(path))
    except FileNotFoundError:
        raise MatrixError(where, (Fault("", "the file does not exist"),), todo="Restore it from git.") from None
    except (OSError, ValueError) as error:
        fault = Fault("", f"not a readable TOML file: {str(error).removeprefix('is not TOML: ')}")
        raise MatrixError(where, (fault,), todo="Correct the file at that place.") from None
    return parse_matrix(data, where)


def parse_matrix(data: Mapping[str, Any], where: str = "matrices/stacks.toml") -> Matrix:
    """The matrix that `data`, a parsed TOML document, states.

    Raises:
        MatrixError: `data` has faults; lists every one of them with its path.
    """
    faults: list[Fault] = []
    parts = _parse_parts(data, faults)
    faults.extend(_contradictions(parts))
    if faults or parts.torch is None or parts.resolve is None:
        raise MatrixError(
            where, tuple(faults), todo="Correct each of these places; the file's own comments say what they hold."
        )
    return Matrix(
        torch=parts.torch.version,
        torch_platform=parts.torch.platform,
        floor=parts.resolve.floor,
        packages=parts.resolve.packages,
        tools=parts.resolve.tools,
        platform=parts.resolve.platform,
        exemptions=tuple(
            Exemption(item.value.package, item.value.until, item.value.why, item.value.device) for item in parts.exempt
        ),
        stacks=(
            *(_stack(package, row.value, parts.resolve) for package, row in parts.rows),
            *(_unpinned(item.value, parts.resolve) for item in parts.unpinned),
        ),
        since={axis.value.package: Version(axis.value.since) for axis in parts.axes if axis.value.since},
        without={axis.value.package: axis.value.without for axis in parts.axes},
        cool_down_days=parts.refresh.cool_down_days if parts.refresh else 0,
    )


def _parse_parts(data: Mapping[str, Any], faults: list[Fault]) -> _Parts:
    faults += [Fault(key, "is not a key this file knows") for key in data if key not in _KEYS]
    faults += [Fault(key, "is missing") for key, needed in _KEYS.items() if needed and key not in data]
    faults += [Fault("axes", "is empty")] if data.get("axes") == [] else []
    axes = _items(data.get("axes", []), "axes", faults)
    return _Parts(
        torch=_parse(_TORCH, data["torch"], "torch", faults) if "torch" in data else None,
        resolve=_parse(_RESOLVE, data["resolve"], "resolve", faults) if "resolve" in data else None,
        exempt=_parse_all(_EXEMPT, _items(data.get("exempt", []), "exempt", faults), faults),
        axes=_parse_all(_AXIS, axes, faults),
        rows=tuple(row for axis in axes for row in _parse_rows(axis, faults)),
        unpinned=_parse_all(_UNPINNED, _items(data.get("unpinned", []), "unpinned", faults), faults),
        refresh=_parse(_REFRESH, data["refresh"], "refresh", faults) if "refresh" in data else None,
    )


def _parse_rows(axis: _Located[Any], faults: list[Fault]) -> list[tuple[str, _Located[_Row]]]:
    """The rows of an axis, whether or not the axis itself has a fault."""
    if not isinstance(axis.value, dict) or not isinstance(axis.value.get("stacks"), list):
        return []
    rows = _items(axis.value["stacks"], f"{axis.path}.stacks", faults)
    return [(str(axis.value.get("package")), row) for row in _parse_all(_ROW, rows, faults)]


def _items(values: Any, path: str, faults: list[Fault]) -> list[_Located[Any]]:
    if not isinstance(values, list):
        faults.append(Fault(path, f"must be a list, not {values!r}"))
        return []
    return [_Located(f"{path}[{index}]", value) for index, value in enumerate(values)]


def _parse_all(adapter: TypeAdapter[_T], items: list[_Located[Any]], faults: list[Fault]) -> tuple[_Located[_T], ...]:
    parsed = [_Located(item.path, _parse(adapter, item.value, item.path, faults)) for item in items]
    return tuple(_Located(item.path, item.value) for item in parsed if item.value is not None)


def _parse(adapter: TypeAdapter[_T], value: Any, path: str, faults: list[Fault]) -> _T | None:
    try:
        parsed: _T = adapter.validate_python(value)
    except ValidationError as error:
        faults.extend(_fault(path, dict(item)) for item in error.errors(include_url=False))
        return None
    return parsed


def _fault(path: str, error: Mapping[str, Any]) -> Fault:
    place = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    return Fault(place.lstrip("."), _problem(error))


def _problem(error: Mapping[str, Any]) -> str:
    """Describe a pydantic error in the terms of the file. Only this function does so."""
    given = error["input"]
    match error["type"]:
        case "missing":
            return "is missing"
        case "unexpected_keyword_argument":
            return "is not a key this file knows"
        case "string_type":
            return f"must be text, not {given!r}"
        case "date_type" | "date_from_datetime_inexact":
            return f"must be a day such as 2025-08-29 (without quotes), not {str(given)!r}"
        case "tuple_type":
            return f"must be a list, not {given!r}"
        case "dataclass_type":
            return f"must be a table, not {given!r}"
        case "enum":
            return f"must be {error['ctx']['expected']}, not {given!r}"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            return str(error["msg"])


# ---------------------------------------------------------------------------------------------- faults between values


def _contradictions(parts: _Parts) -> Iterator[Fault]:
    yield from _repeated(
        [(item.path + ".package", f"{item.value.package} {item.value.device or ''}".strip()) for item in parts.exempt]
    )
    yield from _repeated([(axis.path + ".package", axis.value.package) for axis in parts.axes])
    yield from _repeated(
        [
            *((row.path, f"{package}{_label_of(row.value)}") for package, row in parts.rows),
            *((item.path, item.value.name) for item in parts.unpinned),
        ]
    )
    for _, row in parts.rows:
        yield from _impossible_days(row)
        yield from _wrong_label(row)
    if parts.resolve is not None:
        known = parts.resolve.packages
        for axis in parts.axes:
            if axis.value.package not in known:
                yield Fault(f"{axis.path}.package", f"{axis.value.package!r} is not one of resolve.packages")


def _repeated(named: list[tuple[str, str]]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for path, name in named:
        if name in first:
            yield Fault(path, f"{name!r} is already at {first[name]}")
        first.setdefault(name, path)


def _impossible_days(row: _Located[_Row]) -> Iterator[Fault]:
    as_of, why, released = row.value.as_of, row.value.why, row.value.released
    if as_of is not None and why is None:
        yield Fault(f"{row.path}.why", "is missing: a row that sets as_of must state the reason")
    if as_of is None and why is not None:
        yield Fault(f"{row.path}.why", "gives a reason for as_of, but the row does not set as_of")
    if as_of is not None and as_of < released:
        yield Fault(f"{row.path}.as_of", f"{as_of} is before the release on {released}: the pin did not exist yet")


def _wrong_label(row: _Located[_Row]) -> Iterator[Fault]:
    label = row.value.label
    if label is not None and not f"{row.value.pin}.".startswith(f"{label}."):
        yield Fault(f"{row.path}.label", f"the pin {row.value.pin!r} does not begin with {label!r}")


def _label_of(row: _Row) -> str:
    pin = Version(row.pin)
    return row.label or f"{pin.major}.{pin.minor}"


def _stack(package: str, row: _Row, resolve: _Resolve) -> Stack:
    return Stack(
        package=package,
        label=_label_of(row),
        pin=row.pin,
        released=row.released,
        as_of=row.as_of or max(row.released, resolve.floor),
        why=row.why or "",
        pythons=row.pythons or resolve.pythons,
    )


def _unpinned(row: _Unpinned, resolve: _Resolve) -> Stack:
    return Stack(
        package="",
        label=row.name,
        pin="",
        released=row.as_of,
        as_of=row.as_of,
        why=row.why,
        pythons=row.pythons or resolve.pythons,
        prereleases=row.prereleases,
    )


_ON_A_PYTHON = re.compile(r"(?P<axis>[a-z]+)(?P<version>[0-9]+(\.[0-9]+)*)?-py3(?P<python>[0-9]+)")


def session_of(name: str) -> str | None:
    """The nox session of a stack, for example `compat-3.11(trl='0.22')` for `trl0.22-py311`.

    None if `name` is not the name of a row of the matrix.
    """
    found = _ON_A_PYTHON.fullmatch(name)
    if found is None:
        return None
    axis, label = (found["axis"], found["version"]) if found["version"] else ("stack", found["axis"])
    return f"compat-3.{found['python']}({axis}='{label}')"


def run_command(name: str, options: Sequence[str] = ()) -> str | None:
    """The command that runs a stack, for reports: a nox session in a checkout, else `compat run`.

    None if `name` is not the name of a row of the matrix.
    """
    session = session_of(name)
    if session is None:
        return None
    if places().checkout is None:
        return " ".join(("compat", "run", name, *options))
    return " ".join(("nox", "-s", f'"{session}"', *(("--", *options) if options else ())))
