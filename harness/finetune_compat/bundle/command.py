"""`compat bundle`: choose locks, collect wheels, and pack them with the harness. An error leaves no partial bundle."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune_compat.bundle import start
from finetune_compat.bundle.checkout import Checkout, tracked
from finetune_compat.bundle.parts import FOLDER, MIB, WHEELS, Item, item, pack, refuse_other_contents, take_wheels
from finetune_compat.bundle.wheels import Target, gather, unreachable
from finetune_compat.contract.errors import CompatError, InstallError, LockError
from finetune_compat.contract.records import DeviceKind
from finetune_compat.contract.version import __version__
from finetune_compat.machine.files import locked_file
from finetune_compat.machine.units import bytes_of
from finetune_compat.stacks.hashed_pins import Malformed, Pin, pins_of
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, Stack
from finetune_compat.stacks.uv_tool import install_environ, run_uv


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """The contents of a bundle, and its target machine."""

    stacks: tuple[Stack, ...]
    python: str
    device: DeviceKind
    limit: int | None
    """Maximum size of a part in bytes; None for one part."""


def asked_for(
    matrix: Matrix, names: Sequence[str], python: str | None, device: DeviceKind, size: str | None
) -> BundleRequest:
    """Check the arguments against the matrix. The default Python is the first one of the first stack.

    Raises:
        UnknownName: a stack does not exist.
        LockError: a stack is not locked for that Python.
        CompatError: the size is invalid.
    """
    stacks = tuple(dict.fromkeys(matrix.stack(name) for name in names))
    version = python or stacks[0].pythons[0]
    for stack in stacks:
        if version not in stack.pythons:
            raise LockError(
                f"there is no lock for Python {version}",
                where=stack.name,
                meaning=f"Its row is locked for {' and '.join(stack.pythons)}. A bundle is for one Python.",
                todo=f"Give that Python with --python, or add {version} to the row's `pythons` and run `nox -s lock`.",
            )
    return BundleRequest(stacks, version, device, None if size is None else _limit(size))


def _limit(size: str) -> int:
    number = bytes_of(size)
    if number is None:
        raise CompatError(
            f"{size!r} is not a size",
            where="--max-size",
            meaning="A size is a number above 0 with a unit.",
            todo="Write it as 60MiB, 500MB or 1GiB.",
        )
    return number


def make(matrix: Matrix, asked: BundleRequest, out: Path, progress: Callable[[str], None], root: Path) -> list[Path]:
    """Make the requested bundle in `out`, and return its parts.

    Args:
        matrix: the matrix.
        asked: the stacks and the target machine.
        out: a folder. An earlier bundle in it is replaced, and its wheels are reused.
        progress: called with lines of progress.
        root: the checkout of the harness.

    Raises:
        LockError, CompatError, RegistryUnreachable, InstallError: `out` is unchanged. Downloaded wheels stay next to it
            for the next attempt.
    """
    refuse_other_contents(out)
    locks = [_lock(matrix, stack, asked) for stack in asked.stacks]
    checkout = tracked({lock.path.name for lock in locks}, root)
    target = Target(asked.python, matrix.platform)
    with _scratch(out) as scratch:
        host = scratch / "host.txt"
        host.write_text(_host_requirements(target, root), encoding="utf-8")
        wheels = _wheels([*(lock.path for lock in locks), host], target, out, scratch / WHEELS, progress)
        items = [*_harness(checkout), item("host.txt", host), *wheels]
        parts = pack(
            items, Path(start.__file__), _facts(matrix, asked, checkout, locks), scratch / "parts", asked.limit
        )
        if out.exists():
            out.replace(scratch / "old")
        (scratch / "parts").replace(out)
        shutil.rmtree(scratch)
    progress(_summary(out, parts, items, checkout))
    return [out / part.name for part in parts]


def _lock(matrix: Matrix, stack: Stack, asked: BundleRequest) -> Lock:
    lock = locked(matrix.plan(stack, asked.python, asked.device))
    if isinstance(lock, Unsolvable):
        raise LockError(
            f"no versions go together: {lock.cause}",
            where=stack.on(asked.python),
            meaning="The resolver found no solution for this stack, so there is nothing to pack.",
            todo="Leave it out; `compat stacks` lists all of them.",
        )
    return lock


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder next to `out`, locked for one command. It and its wheels stay if the command fails."""
    scratch = out.with_name(f".{out.name}.making")
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(scratch / "lock", wait=False))
        except BlockingIOError:
            raise CompatError(
                "another `compat bundle` is writing this bundle",
                where=f"--out {out}",
                todo="Wait for the other command, or name another folder.",
            ) from None
        # An interrupted attempt leaves parts. Wheels are reused; their hashes are checked again.
        shutil.rmtree(scratch / "parts", ignore_errors=True)
        yield scratch


def _host_requirements(target: Target, root: Path) -> str:
    """The hashed requirements of the host side, resolved for the target."""
    arguments = [
        *("pip", "compile", str(root / "pyproject.toml"), "--extra", "host", "--quiet", "--generate-hashes"),
        *("--no-header", "--no-annotate", "--no-build"),
        *("--python-version", target.python, "--python-platform", target.platform),
    ]
    answer = run_uv(arguments, environ=install_environ())
    if answer.unreachable:
        raise unreachable(answer.cause, "the host side")
    if not answer.ok:
        raise InstallError(
            f"uv could not resolve the harness's own dependencies: {answer.cause}",
            where="the host side",
            meaning=f"A requirement in pyproject.toml has no wheel for Python {target.python} on {target.platform}.",
            todo="Read uv's reason. A mirror may lack a package.",
        )
    return answer.output


def _wheels(
    files: Sequence[Path], target: Target, out: Path, folder: Path, progress: Callable[[str], None]
) -> list[Item]:
    """One wheel for every pin in the requirements files. Files share wheels of the same pin."""
    wanted = {file: _pins(file) for file in files}
    take_wheels(out, {digest for pins in wanted.values() for pin in pins for digest in pin.hashes}, folder)
    found: set[Path] = set()
    for file, pins in wanted.items():
        name = "the host side" if file.name == "host.txt" else file.stem
        progress(f"{name}: {len(pins)} wheels")
        found |= gather(pins, target, folder, name, progress)
    return [item(f"{WHEELS}/{path.name}", path) for path in sorted(found)]


def _pins(file: Path) -> tuple[Pin, ...]:
    lines = file.read_text(encoding="utf-8").splitlines()
    header = sum(1 for _ in itertools.takewhile(lambda line: line.startswith("#"), lines))
    try:
        return pins_of(lines[header:], first_line=header + 1, markers=True)
    except Malformed as problem:
        raise InstallError(
            f"not the hashed requirements that uv writes: {problem}",
            where=file.name,
            meaning="This version of uv writes another format, or a package has no hash.",
            todo="Use the uv version in pyproject.toml.",
        ) from None


def _harness(checkout: Checkout) -> list[Item]:
    return [item(name, checkout.root / name) for name in checkout.files]


def _facts(matrix: Matrix, asked: BundleRequest, checkout: Checkout, locks: Sequence[Lock]) -> dict[str, Any]:
    return {
        "made": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "harness": __version__,
        "commit": checkout.commit,
        "changed": checkout.changed,
        "stacks": [stack.name for stack in asked.stacks],
        "locks": {lock.path.name: lock.sha256 for lock in locks},
        "device": asked.device,
        "python": asked.python,
        "platform": matrix.platform,
        "torch": matrix.torch,
    }


def _summary(out: Path, parts: Sequence[Path], items: Sequence[Item], checkout: Checkout) -> str:
    size = sum((out / part.name).stat().st_size for part in parts) / MIB
    wheels = sum(each.name.startswith(f"{WHEELS}/") for each in items)
    changed = f" and {len(checkout.changed)} changed files" if checkout.changed else ""
    many = f"{len(parts)} part{'s' if len(parts) > 1 else ''}, {size:.1f} MiB"
    lines = (
        f"{out}: {many}: {wheels} wheels and the harness of commit {checkout.commit[:12]}{changed}",
        "on the target machine, with the Python that has torch:",
        f'    for part in {FOLDER}-*.tar; do tar -xf "$part"; done',
        f"    python3 {FOLDER}/start.py",
        "start.py prints the next command; see docs/air-gapped.md",
    )
    return "\n".join(lines)
