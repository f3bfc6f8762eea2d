"""Environments: a virtual environment made equal to a lock plus torch, and proof that it is.

torch is the platform layer. Its version comes from the matrix, its build from the machine: a CPU wheel where one is
offered, the registry's CUDA build elsewhere, or, when asked for, the torch of another Python. A stamp says which lock
an environment was made from; one whose stamp and contents both still hold is used as it is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from finetune_compat.contract.errors import EnvironmentMismatch, InstallError, RegistryUnreachable, Unbuildable
from finetune_compat.contract.redaction import redact
from finetune_compat.machine.files import locked_file
from finetune_compat.machine.places import places
from finetune_compat.stacks.locks import Lock
from finetune_compat.stacks.supply import REGISTRY, BasePython, Supply
from finetune_compat.stacks.uv_tool import Answer, install_environ, run_uv

SEEDS = frozenset({"pip", "uv", "virtualenv"})
"""What a tool that makes environments may put into one. setuptools and wheel are not here: stacks lock those."""
NAMED = 8
"""How many packages an error names. More does not help to see what kind of difference it is."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What is true of an environment that was compared with its lock and is equal to it."""

    torch: str
    """The torch in it, with its build, such as `2.13.0+cpu`."""
    base_torch: bool
    """True if that is another version than the matrix names, which was asked for."""
    reused: bool
    """True if nothing had to be installed."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What an environment was made from. Written last, removed first."""

    lock_sha256: str
    torch: str
    lender: str | None
    """The Python whose torch is lent, if one is."""


@dataclass(frozen=True, slots=True)
class _Venv:
    """The places of a virtual environment."""

    python: Path

    @property
    def root(self) -> Path:
        return self.python.parent.parent

    @property
    def site(self) -> Path:
        return next(iter(sorted(self.root.glob("lib/python3.*/site-packages"))))

    @property
    def version(self) -> str:
        """Python's minor, such as `3.11`."""
        return self.site.parent.name.removeprefix("python")

    @property
    def stamp(self) -> Path:
        return self.root / "compat-stamp.json"

    @property
    def log(self) -> Path:
        return self.root / "compat-install.log"

    @property
    def lent(self) -> Path:
        """Links to a torch that lives elsewhere. Outside site-packages: no installer may ever remove through them."""
        return self.root / "lent-torch"

    @property
    def lent_pth(self) -> Path:
        return self.site / "compat-lent-torch.pth"


def environment_of(lock: Lock, envs: Path | None = None) -> tuple[Path, Environment]:
    """The interpreter of the environment of `lock`, for commands nox does not run: made on first use, and compared with
    its lock before every use.

    Raises:
        InstallError: the lock's Python is not on this machine, or as for `prepare_environment`.
        RegistryUnreachable, EnvironmentMismatch: as for `prepare_environment`.
    """
    folder = (envs or places().environments) / lock.path.stem
    python = folder / "bin" / "python"
    with _alone(folder):
        if not python.exists():
            _make_venv(folder, lock)
        return python, prepare_environment(python, lock, lock.facts["torch"])


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While open, no other command makes or changes the environment in `folder`."""
    with locked_file(folder.with_name(f"{folder.name}.lock")):
        yield


def _make_venv(folder: Path, lock: Lock) -> None:
    # What is there has no interpreter: its Python was removed, or making it was cut off.
    shutil.rmtree(folder, ignore_errors=True)
    python = lock.facts["python"]
    answer = run_uv(["venv", "--no-python-downloads", "--python", python, str(folder)], environ=install_environ())
    if not answer.ok:
        raise InstallError(
            f"uv could not make an environment with Python {python}: {answer.cause}",
            where=lock.path.stem,
            meaning="The stack is locked for this Python, and it is not on this machine; nor is another taken for it.",
            todo=f"Install Python {python}, or name a stack that is locked for one that is here (`compat stacks`).",
        )


def prepare_environment(python: Path, lock: Lock, torch: str, supply: Supply = REGISTRY) -> Environment:
    """Make the virtual environment of `python` equal to `lock` plus `torch`, and prove that it is.

    Args:
        python: the environment's interpreter.
        lock: what it must hold.
        torch: the version of torch the matrix names.
        supply: where packages and torch come from; by default the registry.

    Raises:
        InstallError: the interpreter is missing, a package does not build, a hash differs, the wheelhouse
            lacks a wheel, the base Python has no torch for the environment's Python.
        RegistryUnreachable: there was no way to ask.
        EnvironmentMismatch: after installation the environment is still not what the lock says.
    """
    venv = _venv(python)
    stamp = _Stamp(lock.sha256, torch, None if supply.base is None else supply.base.executable)
    reused = _read_stamp(venv) == stamp and not _differences(venv, lock, stamp)
    if not reused:
        _refuse_lacking(lock, supply)
        venv.stamp.unlink(missing_ok=True)
        _install(venv, lock, stamp, supply)
        _refuse_differences(venv, lock, stamp)
        venv.stamp.write_text(json.dumps(asdict(stamp)), encoding="utf-8")
    installed = _torch_in(venv, stamp)
    other = Version(installed).base_version != Version(torch).base_version
    return Environment(installed, base_torch=other, reused=reused)


def _venv(python: Path) -> _Venv:
    venv = _Venv(python)
    if not python.exists() or not list(venv.root.glob("lib/python3.*/site-packages")):
        raise InstallError(
            "its Python interpreter is missing",
            where=str(python),
            meaning="The interpreter this environment was made with was removed or moved.",
            todo="Delete the environment's folder and run the session again; it is made anew.",
        )
    return venv


def lender_of(python: Path) -> str | None:
    """The Python whose torch the environment of `python` was given; None if it has one of its own, or none yet.

    Raises:
        InstallError: there is no such environment.
    """
    stamp = _read_stamp(_venv(python))
    return None if stamp is None else stamp.lender


def _read_stamp(venv: _Venv) -> _Stamp | None:
    try:
        return _Stamp(**json.loads(venv.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # No stamp, or one that says nothing: the environment is installed again, which is always right.
        return None


# --------------------------------------------------------------------------------------------------------- installing


def _install(venv: _Venv, lock: Lock, stamp: _Stamp, supply: Supply) -> None:
    """The lock first, so that what torch shares with it is already of the right version when torch comes."""
    _return_lent(venv)
    venv.log.unlink(missing_ok=True)
    _uv(venv, lock, supply, "install", "--require-hashes", "--no-deps", "--requirements", str(lock.path))
    if supply.base is not None:
        _lend(venv, lock, supply.base)
    else:
        _install_torch(venv, lock, stamp, supply)
    extra = _differences(venv, lock, stamp).extra
    if extra:
        _uv(venv, lock, supply, "uninstall", *extra)


def _install_torch(venv: _Venv, lock: Lock, stamp: _Stamp, supply: Supply) -> None:
    try:
        _uv(venv, lock, supply, "install", f"torch=={stamp.torch}")
    except InstallError:
        if not supply.offline:
            raise
        raise InstallError(
            f"there is no torch {stamp.torch} to install",
            where=lock.path.stem,
            meaning=f"With --offline no registry is asked, and a bundle has none. uv's own words are in {venv.log}.",
            todo="Take the torch of a Python on this machine: --base-python PY.",
        ) from None


def _refuse_lacking(lock: Lock, supply: Supply) -> None:
    lacking = supply.lacking(lock.requirements)
    if lacking:
        raise InstallError(
            f"the wheelhouse lacks {len(lacking)} of the lock's {len(lock.requirements)} wheels: {_some(lacking)}",
            where=f"{lock.path.stem}: --wheelhouse {supply.wheelhouse}",
            meaning="The bundle was made for other stacks, or for another device (--device), or not all of it is here.",
            todo="`python3 start.py` in the bundle says what is missing; where the registry is, `compat bundle "
            f"{lock.path.stem.partition('-py')[0]}` packs this stack.",
        )


def _uv(venv: _Venv, lock: Lock, supply: Supply, verb: str, *arguments: str) -> None:
    options = supply.options if verb == "install" else ()
    answer = run_uv(["pip", verb, "--python", str(venv.python), *options, *arguments], environ=supply.environ())
    with venv.log.open("a", encoding="utf-8") as log:
        log.write(redact(f"$ uv pip {verb} {' '.join([*options, *arguments])}\n{answer.output}{answer.complaint}\n"))
    if not answer.ok:
        raise _install_error(venv, lock, answer)


def _install_error(venv: _Venv, lock: Lock, answer: Answer) -> InstallError:
    where, log = lock.path.stem, f"uv's own words are in {venv.log}."
    line = answer.cause
    if answer.unreachable:
        return RegistryUnreachable(
            f"the package registry is out of reach: {line}",
            where=where,
            meaning=f"This machine has no network, or needs a proxy or a mirror (UV_DEFAULT_INDEX). {log}",
            todo="Check the connection and run the session again; what was downloaded is kept.",
        )
    if "Hash mismatch" in answer.complaint:
        return InstallError(
            f"a downloaded file is not the one that was locked: {line}",
            where=where,
            meaning=f"A mirror serves another build, or the file was replaced after the lock was made. {log}",
            todo="Do not install it. Compare the file with the registry's, then make the lock again if that is right.",
        )
    if "Failed to build" in answer.complaint or "build backend" in answer.complaint:
        return Unbuildable(
            f"a package fails to build: {line}",
            where=where,
            meaning=f"There is no wheel for this Python and platform, and the source does not build here. {log}",
            todo="Run the stack on a Python that has a wheel, or install the compiler the log asks for.",
        )
    return InstallError(
        f"uv could not install it: {line}",
        where=where,
        meaning=f"The lock has no file for this Python and platform, or the disk is full. {log}",
        todo="Read that log; if the lock is at fault, make it again with `nox -s lock`.",
    )


# --------------------------------------------------------------------------------------------- a torch from elsewhere


def _lend(venv: _Venv, lock: Lock, base: BasePython) -> None:
    """Link the torch of `base`, and what only torch needs, into the environment."""
    if base.version != venv.version:
        raise InstallError(
            f"it is Python {base.version}, and {lock.path.stem} runs on {venv.version}",
            where=base.where,
            meaning="A build of torch is for one Python.",
            todo=f"Name a Python {venv.version} that has torch, or a stack that is locked for {base.version} "
            "(`compat stacks`).",
        )
    there = _by_name(distributions(path=list(base.path)))
    if "torch" not in there:
        raise InstallError(
            "there is no torch in it",
            where=base.where,
            meaning="The environment was to take the torch of this Python.",
            todo="Name the Python in which `import torch` works.",
        )
    venv.lent.mkdir()
    for name in _closure("torch", there, venv.version) - lock.requirements.keys():
        for entry in _top_level(there[name].distribution):
            link = venv.lent / entry.name
            if not link.exists():
                link.symlink_to(entry)
    venv.lent_pth.write_text(f"{venv.lent}\n", encoding="utf-8")


def _return_lent(venv: _Venv) -> None:
    venv.lent_pth.unlink(missing_ok=True)
    shutil.rmtree(venv.lent, ignore_errors=True)


def _top_level(distribution: Distribution) -> set[Path]:
    """The files and folders directly in site-packages that `distribution` brought."""
    names = {file.parts[0] for file in distribution.files or ()}
    root = Path(str(distribution.locate_file("")))
    return {root / name for name in names - {"..", "__pycache__"} if (root / name).exists()}


# ---------------------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class _Differences:
    """What an environment has other than its lock. Falsy if nothing."""

    missing: tuple[str, ...]
    other: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.other or self.extra)


def _differences(venv: _Venv, lock: Lock, stamp: _Stamp) -> _Differences:
    """Compare both ways: nothing missing or other than locked, nothing extra beyond what torch itself needs."""
    site = _by_name(distributions(path=[str(venv.site)]))
    torch = _by_name(distributions(path=[str(venv.lent)])) if stamp.lender else site
    wanted = dict(lock.requirements)
    missing = [name for name in wanted if name not in site] + ([] if "torch" in torch else ["torch"])
    found = {name: site[name].version for name in wanted if name in site}
    other = [
        f"{name} {version} (locked: {wanted[name]})"
        for name, version in found.items()
        if not _same(version, wanted[name])
    ]
    if not stamp.lender and "torch" in site and Version(site["torch"].version).public != stamp.torch:
        other.append(f"torch {site['torch'].version} (wanted: {stamp.torch})")
    allowed = wanted.keys() | SEEDS | (set() if stamp.lender else _closure("torch", site, venv.version))
    return _Differences(tuple(sorted(missing)), tuple(sorted(other)), tuple(sorted(site.keys() - allowed)))


def _refuse_differences(venv: _Venv, lock: Lock, stamp: _Stamp) -> None:
    found = _differences(venv, lock, stamp)
    if not found:
        return
    kinds = (("missing", found.missing), ("other", found.other), ("extra", found.extra))
    raise EnvironmentMismatch(
        "the environment is not what its lock says\n"
        + "\n".join(f"  {kind}: {_some(names)}" for kind, names in kinds if names),
        where=lock.path.stem,
        meaning="Something else installs into this environment, or an installation was cut off.",
        todo=f"Delete {venv.root} and run the session again.",
    )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _same(installed: str, locked: str) -> bool:
    return Version(installed) == Version(locked)


def _torch_in(venv: _Venv, stamp: _Stamp) -> str:
    place = venv.lent if stamp.lender else venv.site
    return next(found.version for found in distributions(name="torch", path=[str(place)]) if found.metadata["Version"])


@dataclass(frozen=True, slots=True)
class _Package:
    """A distribution and its version, which it looks up in its metadata anew whenever it is asked."""

    version: str
    distribution: Distribution


def _by_name(found: Iterable[Distribution]) -> dict[str, _Package]:
    """Distributions by canonical name. The first of a name is the one that is imported."""
    named: dict[str, _Package] = {}
    for distribution in found:
        metadata = distribution.metadata
        # A folder left over from a broken installation has no name; it cannot be imported as a distribution either.
        if metadata["Name"]:
            named.setdefault(canonicalize_name(metadata["Name"]), _Package(metadata["Version"], distribution))
    return named


def _closure(name: str, among: Mapping[str, _Package], python: str) -> set[str]:
    """`name` and everything of `among` that it needs on this Python, extras included."""
    todo: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    done: set[tuple[str, frozenset[str]]] = set()
    while todo:
        item = todo.pop()
        if item in done or item[0] not in among:
            continue
        done.add(item)
        todo.extend(_needs(among[item[0]].distribution, item[1], python))
    return {found for found, _ in done}


def _needs(distribution: Distribution, extras: frozenset[str], python: str) -> Iterator[tuple[str, frozenset[str]]]:
    environment: dict[str, str] = {name: str(value) for name, value in default_environment().items()}
    environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    for text in distribution.requires or ():
        need = Requirement(text)
        marker = need.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(need.name), frozenset(need.extras)
