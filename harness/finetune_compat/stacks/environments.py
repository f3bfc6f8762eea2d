"""Environments: install a lock plus torch into a virtual environment, and verify the result.

torch is the platform layer. Its version comes from the matrix. Its build depends on the machine: a CPU wheel if an
index offers one, else the registry's CUDA build, or, on request, the torch of another Python. Published builds are
compared with the hashes in matrices/torch-VERSION.txt. A stamp file records which lock an environment was made from.
An environment whose stamp and contents match is reused.
"""

from __future__ import annotations

import json
import re
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

from finetune_compat.contract.errors import EnvironmentMismatch, InstallError, RegistryUnreachable, Unbuildable, why
from finetune_compat.contract.redaction import redact_here
from finetune_compat.machine.files import locked_file
from finetune_compat.machine.places import places
from finetune_compat.stacks.contents import changed
from finetune_compat.stacks.locks import WHEELS, Lock
from finetune_compat.stacks.supply import REGISTRY, BasePython, Supply
from finetune_compat.stacks.uv_tool import Answer, install_environ, run_uv

SEEDS = frozenset({"pip", "uv", "virtualenv"})
"""Packages that tools install into a new environment. setuptools and wheel are not listed, because stacks lock them."""
_CHOSEN = re.compile(r"^ \+ torch==(\S+)", re.MULTILINE)
"""The line in which uv says which torch it would install."""

NAMED = 8
"""Most packages that an error message names."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Facts of an environment that was verified against its lock."""

    torch: str
    """The installed torch with its build, for example `2.13.0+cpu`."""
    base_torch: bool
    """Whether its version differs from the version in the matrix, because the user asked for another Python's torch."""
    reused: bool
    """Whether nothing had to be installed."""

    @property
    def note(self) -> str:
        """What a person should know of this torch; empty for a build that PyPI publishes."""
        return " (not on PyPI: not compared with a published hash)" if Version(self.torch).local else ""


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What an environment was made from. The stamp is removed before an installation and written after it."""

    lock_sha256: str
    torch: str
    lender: str | None
    """The Python whose torch the environment uses; None if torch is installed in it."""


@dataclass(frozen=True, slots=True)
class _Venv:
    """The paths of a virtual environment."""

    python: Path

    @property
    def root(self) -> Path:
        return self.python.parent.parent

    @property
    def site(self) -> Path:
        return next(iter(sorted(self.root.glob("lib/python3.*/site-packages"))))

    @property
    def version(self) -> str:
        """Python's minor version, for example `3.11`."""
        return self.site.parent.name.removeprefix("python")

    @property
    def stamp(self) -> Path:
        return self.root / "compat-stamp.json"

    @property
    def log(self) -> Path:
        return self.root / "compat-install.log"

    @property
    def contents(self) -> Path:
        """The cached digest of its files."""
        return self.root / "compat-contents.txt"

    @property
    def lent(self) -> Path:
        """Links to the torch of another Python. Outside site-packages: no installer removes files through them."""
        return self.root / "lent-torch"

    @property
    def lent_pth(self) -> Path:
        return self.site / "compat-lent-torch.pth"


def environment_of(lock: Lock, envs: Path | None = None) -> tuple[Path, Environment]:
    """The interpreter of the environment of `lock`, and its facts, for commands that run without nox.

    The environment is made on first use, and verified against its lock before every use.

    Raises:
        InstallError: the lock's Python is not on this machine, or as for `prepare_environment`.
        RegistryUnreachable, EnvironmentMismatch: as for `prepare_environment`.
    """
    python = python_of(lock, envs)
    folder = python.parent.parent
    with _alone(folder):
        if not python.exists():
            _make_venv(folder, lock)
        return python, prepare_environment(python, lock, lock.facts["torch"])


def made_environment(lock: Lock, envs: Path | None = None) -> tuple[Path, Environment] | None:
    """As `environment_of`, for what only looks up results of `lock`: nothing is made, and no file is compared.

    None where the environment was not made from this lock with a torch of the registry.
    """
    python = python_of(lock, envs)
    stamp = _Stamp(lock.sha256, lock.facts["torch"], None)
    if not python.exists() or _read_stamp(_Venv(python)) != stamp:
        return None
    return python, Environment(_torch_in(_Venv(python), stamp), base_torch=False, reused=True)


def python_of(lock: Lock, envs: Path | None = None) -> Path:
    """The interpreter of the environment of `lock` for commands that run without nox. It may not exist."""
    return (envs or places().environments) / lock.path.stem / "bin" / "python"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the lock of the environment in `folder`: no other command makes or changes it."""
    with locked_file(folder.with_name(f"{folder.name}.lock")):
        yield


def _make_venv(folder: Path, lock: Lock) -> None:
    # The folder has no interpreter: its Python was removed, or its creation was interrupted.
    shutil.rmtree(folder, ignore_errors=True)
    python = lock.facts["python"]
    answer = run_uv(["venv", "--no-python-downloads", "--python", python, str(folder)], environ=install_environ())
    if not answer.ok:
        raise InstallError(
            f"uv could not make an environment with Python {python}: {answer.cause}",
            where=lock.path.stem,
            meaning="The stack is locked for this Python version, which is not on this machine.",
            todo=f"Install Python {python}, or name a stack that is locked for an installed Python (`compat stacks`).",
        )


def prepare_environment(python: Path, lock: Lock, torch: str, supply: Supply = REGISTRY) -> Environment:
    """Install `lock` and `torch` into the virtual environment of `python`, and verify the result.

    Args:
        python: the environment's interpreter.
        lock: the packages to install.
        torch: the version of torch in the matrix.
        supply: where packages and torch come from; by default the registry.

    Raises:
        InstallError: the interpreter is missing, a package does not build, a hash differs, the wheelhouse
            lacks a wheel, or the base Python has no torch for the environment's Python.
        RegistryUnreachable: the registry does not answer.
        EnvironmentMismatch: the environment differs from the lock after the installation, or its files from the wheels.
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
    _refuse_changed(venv)
    installed = _torch_in(venv, stamp)
    other = Version(installed).base_version != Version(torch).base_version
    return Environment(installed, base_torch=other, reused=reused)


def _venv(python: Path) -> _Venv:
    venv = _Venv(python)
    if not python.exists() or not list(venv.root.glob("lib/python3.*/site-packages")):
        raise InstallError(
            "its Python interpreter is missing",
            where=str(python),
            meaning="The interpreter that this environment was made with was removed or moved.",
            todo="Delete the environment's folder. Then run the session again, which makes the environment.",
        )
    return venv


def lender_of(python: Path) -> str | None:
    """The Python whose torch the environment of `python` uses; None if torch is installed in it, or not installed yet.

    Raises:
        InstallError: there is no such environment.
    """
    stamp = _read_stamp(_venv(python))
    return None if stamp is None else stamp.lender


def _read_stamp(venv: _Venv) -> _Stamp | None:
    try:
        return _Stamp(**json.loads(venv.stamp.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Without a valid stamp the environment is installed again, which is always correct.
        return None


# --------------------------------------------------------------------------------------------------------- installing


def _install(venv: _Venv, lock: Lock, stamp: _Stamp, supply: Supply) -> None:
    """Install the lock, then torch: torch's own dependencies then already have the locked versions."""
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
    pins = places().torch_pins(stamp.torch)
    hashed = pins.is_file() and not _is_local_build(venv, stamp, supply)
    try:
        # uv compares what it downloads with the hashes of constraints too.
        constraints = ("--constraints", str(pins)) if hashed else ()
        _uv(venv, lock, supply, "install", "--verify-hashes", *constraints, f"torch=={stamp.torch}")
    except InstallError:
        if not supply.offline:
            raise
        raise InstallError(
            f"there is no torch {stamp.torch} to install",
            where=lock.path.stem,
            meaning=f"--offline uses no registry, and a bundle does not contain torch. uv's output is in {venv.log}.",
            todo="Take the torch of a Python on this machine: --base-python PY.",
        ) from None


def _is_local_build(venv: _Venv, stamp: _Stamp, supply: Supply) -> bool:
    """Whether uv would install a build with a local version, such as 2.13.0+cpu. PyPI accepts none, so none has a hash
    there.
    """
    words = ("pip", "install", "--dry-run", "--python", str(venv.python), *supply.options, f"torch=={stamp.torch}")
    found = _CHOSEN.search(run_uv(words, environ=supply.environ()).complaint)
    return found is not None and Version(found[1]).local is not None


def _refuse_lacking(lock: Lock, supply: Supply) -> None:
    lacking = supply.lacking(lock.requirements)
    if lacking:
        raise InstallError(
            f"the wheelhouse lacks {len(lacking)} of the lock's {len(lock.requirements)} wheels: {_some(lacking)}",
            where=f"{lock.path.stem}: --wheelhouse {supply.wheelhouse}",
            meaning="The bundle was made for other stacks or for another device (--device), or it is incomplete.",
            todo="`python3 start.py` in the bundle lists what is missing. On a machine with a registry, `compat bundle "
            f"{lock.path.stem.partition('-py')[0]}` packs this stack.",
        )


def _uv(venv: _Venv, lock: Lock, supply: Supply, verb: str, *arguments: str) -> None:
    options = supply.options if verb == "install" else ()
    if verb == "install" and WHEELS in lock.facts:
        options = (*options, *(word for folder in lock.facts[WHEELS].split() for word in ("--find-links", folder)))
    answer = run_uv(["pip", verb, "--python", str(venv.python), *options, *arguments], environ=supply.environ())
    with venv.log.open("a", encoding="utf-8") as log:
        words = " ".join([*options, *arguments])
        log.write(redact_here(f"$ uv pip {verb} {words}\n{answer.output}{answer.complaint}\n"))
    if not answer.ok:
        raise _install_error(venv, lock, answer)


def _install_error(venv: _Venv, lock: Lock, answer: Answer) -> InstallError:
    where, log = lock.path.stem, f"uv's output is in {venv.log}."
    line = answer.cause
    if answer.unreachable:
        return RegistryUnreachable(
            f"the package registry is out of reach: {line}",
            where=where,
            meaning=f"This machine has no network, or needs a proxy or a mirror (UV_DEFAULT_INDEX). {log}",
            todo="Check the connection and run the session again. Downloaded files are cached.",
        )
    if answer.lacking:
        return RegistryUnreachable(
            f"the package registry lacks what the lock names: {line}",
            where=where,
            meaning=f"A mirror is incomplete, or answers with something else, such as a login page. {log}",
            todo="Check UV_DEFAULT_INDEX and its credentials, and run the session again.",
        )
    if "Hash mismatch" in answer.complaint:
        return InstallError(
            f"a downloaded file is not the one that was locked: {line}",
            where=where,
            meaning=f"A mirror serves another build, or the file was replaced after the lock was made. {log}",
            todo="Do not install it. Compare the file with the registry's. If that file is right, make the lock again.",
        )
    if "Failed to build" in answer.complaint or "build backend" in answer.complaint:
        return Unbuildable(
            f"a package fails to build: {line}",
            where=where,
            meaning=f"There is no wheel for this Python and platform, and the source does not build here. {log}",
            todo="Run the stack on a Python that has a wheel, or install the compiler that the log names.",
        )
    return InstallError(
        f"uv could not install the lock: {line}",
        where=where,
        meaning=f"The lock has no file for this Python and platform, or the disk is full. {log}",
        todo="Read the log. If the lock is wrong, make it again with `nox -s lock`.",
    )


# --------------------------------------------------------------------------------------------- torch of another Python


def _lend(venv: _Venv, lock: Lock, base: BasePython) -> None:
    """Link the torch of `base`, and those of its dependencies that are not locked, into the environment."""
    if base.version != venv.version:
        raise InstallError(
            f"this is Python {base.version}, but {lock.path.stem} runs on Python {venv.version}",
            where=base.where,
            meaning="A build of torch works with one Python version.",
            todo=f"Name a Python {venv.version} that has torch, or a stack that is locked for Python {base.version} "
            "(`compat stacks`).",
        )
    there = _by_name(distributions(path=list(base.path)))
    if "torch" not in there:
        raise InstallError(
            "there is no torch in it",
            where=base.where,
            meaning="The environment uses the torch of this Python.",
            todo="Name a Python in which `import torch` works.",
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
    """The files and folders of `distribution` directly in site-packages."""
    names = {file.parts[0] for file in distribution.files or ()}
    root = Path(str(distribution.locate_file("")))
    return {root / name for name in names - {"..", "__pycache__"} if (root / name).exists()}


# ---------------------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True, slots=True)
class _Differences:
    """The differences between an environment and its lock. Falsy if there are none."""

    missing: tuple[str, ...]
    other: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.other or self.extra)


def _differences(venv: _Venv, lock: Lock, stamp: _Stamp) -> _Differences:
    """Compare in both directions: locked packages that are missing or have another version, and packages that are
    neither locked nor needed by torch.
    """
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
        "the environment differs from its lock\n"
        + "\n".join(f"  {kind}: {_some(names)}" for kind, names in kinds if names),
        where=lock.path.stem,
        meaning="Another program installs into this environment, or an installation was interrupted.",
        todo=f"Delete {venv.root} and run the session again.",
    )


def _refuse_changed(venv: _Venv) -> None:
    """Refuse an environment with files that are not those of its wheels.

    Raises:
        EnvironmentMismatch: a file was edited, deleted or added.
    """
    try:
        found = changed(venv.site, venv.contents, venv.stamp.stat().st_mtime, frozenset({venv.lent_pth.name}))
    except (OSError, ValueError) as error:
        problem, cached = f"its files cannot be read: {why(error)}", ""
    else:
        kinds = (("edited", found.edited), ("missing", found.missing), ("in no package", found.foreign))
        lines = "\n".join(f"  {kind}: {_some(paths)}" for kind, paths in kinds if paths)
        problem = f"the environment's files are not those of its wheels\n{lines}"
        if not found:
            return
        # An edit in place is in the cache too, because the installer links files from there.
        cached = f" Run `uv cache clean {' '.join(found.packages)}`." if found.packages else ""
    raise EnvironmentMismatch(
        problem,
        where=str(venv.site),
        meaning="What it would observe is not what these versions do. Files were changed after they were installed.",
        todo=f"Delete {venv.root}.{cached} Then run the command again, which installs them again.",
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
    """A distribution and its version. `Distribution.version` parses the metadata at every access, so it is stored."""

    version: str
    distribution: Distribution


def _by_name(found: Iterable[Distribution]) -> dict[str, _Package]:
    """Distributions by canonical name. Of several with one name, Python imports the first."""
    named: dict[str, _Package] = {}
    for distribution in found:
        metadata = distribution.metadata
        # The leftover folder of a broken installation has no name. It is not an installed distribution.
        if metadata["Name"]:
            named.setdefault(canonicalize_name(metadata["Name"]), _Package(metadata["Version"], distribution))
    return named


def _closure(name: str, among: Mapping[str, _Package], python: str) -> set[str]:
    """`name` and its dependencies among `among` on this Python, recursively and with extras."""
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
