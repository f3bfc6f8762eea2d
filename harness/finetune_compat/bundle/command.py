"""`compat bundle`: choose the locks, gather the wheels, pack them with the harness. Whole or not at all."""

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
from finetune_compat.stacks.locks import Lock, Unsolvable, locked
from finetune_compat.stacks.matrix import Matrix, Stack
from finetune_compat.stacks.requirement_files import Malformed, Pin, pins_of
from finetune_compat.stacks.uv_tool import install_environ, run_uv


@dataclass(frozen=True, slots=True)
class BundleRequest:
    """What a bundle is to hold, and for which machine."""

    stacks: tuple[Stack, ...]
    python: str
    device: DeviceKind
    limit: int | None
    """Bytes a part may have."""


def asked_for(
    matrix: Matrix, names: Sequence[str], python: str | None, device: DeviceKind, size: str | None
) -> BundleRequest:
    """What a person typed, checked against the matrix. The Python is by default the first of the first stack's row.

    Raises:
        UnknownName: there is no such stack.
        LockError: a stack is not locked for that Python.
        CompatError: the size is none.
    """
    stacks = tuple(dict.fromkeys(matrix.stack(name) for name in names))
    version = python or stacks[0].pythons[0]
    for stack in stacks:
        if version not in stack.pythons:
            raise LockError(
                f"there is no lock for Python {version}",
                where=stack.name,
                meaning=f"Its row is locked for {' and '.join(stack.pythons)}. A bundle is for one Python.",
                todo=f"Name that Python with --python, or add {version} to the row's `pythons` and run `nox -s lock`.",
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


def make(matrix: Matrix, asked: BundleRequest, out: Path, tell: Callable[[str], None], root: Path) -> list[Path]:
    """Make the bundle that is `asked` for in `out`, and return its parts.

    Args:
        matrix: the matrix.
        asked: the stacks and the machine.
        out: a folder; an earlier bundle in it gives its wheels and is replaced.
        tell: takes lines of progress.
        root: the checkout the harness is taken from.

    Raises:
        LockError, CompatError, RegistryUnreachable, InstallError: `out` is as it was before. Wheels that were fetched
            stay beside it and are used by the next attempt.
    """
    refuse_other_contents(out)
    locks = [_lock(matrix, stack, asked) for stack in asked.stacks]
    checkout = tracked({lock.path.name for lock in locks}, root)
    target = Target(asked.python, matrix.platform)
    with _scratch(out) as scratch:
        host = scratch / "host.txt"
        host.write_text(_host_requirements(target, root), encoding="utf-8")
        wheels = _wheels([*(lock.path for lock in locks), host], target, out, scratch / WHEELS, tell)
        items = [*_harness(checkout), item("host.txt", host), *wheels]
        parts = pack(
            items, Path(start.__file__), _facts(matrix, asked, checkout, locks), scratch / "parts", asked.limit
        )
        if out.exists():
            out.replace(scratch / "old")
        (scratch / "parts").replace(out)
        shutil.rmtree(scratch)
    tell(_summary(out, parts, items, checkout))
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
    """A folder beside `out`, for one command at a time. It stays when the command fails, with the wheels it has."""
    scratch = out.with_name(f".{out.name}.making")
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked_file(scratch / "lock", wait=False))
        except BlockingIOError:
            raise CompatError(
                "another `compat bundle` is writing it",
                where=f"--out {out}",
                todo="Wait for that one, or name another folder.",
            ) from None
        # Left by an attempt that was ended. Wheels are kept; they are compared with their hashes again.
        shutil.rmtree(scratch / "parts", ignore_errors=True)
        yield scratch


def _host_requirements(target: Target, root: Path) -> str:
    """The host side's own dependencies, resolved for the target with hashes."""
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
            meaning=f"pyproject.toml asks for what has no wheel for Python {target.python} on {target.platform}.",
            todo="Read uv's reason; a mirror may lack a package.",
        )
    return answer.output


def _wheels(files: Sequence[Path], target: Target, out: Path, folder: Path, tell: Callable[[str], None]) -> list[Item]:
    """A wheel for every pin of every requirements file; one that several ask for is one file."""
    wanted = {file: _pins(file) for file in files}
    take_wheels(out, {digest for pins in wanted.values() for pin in pins for digest in pin.hashes}, folder)
    found: set[Path] = set()
    for file, pins in wanted.items():
        name = "the host side" if file.name == "host.txt" else file.stem
        tell(f"{name}: {len(pins)} wheels")
        found |= gather(pins, target, folder, name, tell)
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
            meaning="This uv writes them in another form, or they name a package that has no hash.",
            todo="Use the uv that pyproject.toml asks for.",
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
        "there, with the Python that has torch:",
        f'    for part in {FOLDER}-*.tar; do tar -xf "$part"; done',
        f"    python3 {FOLDER}/start.py",
        "which says what comes next; docs/air-gapped.md says all of it",
    )
    return "\n".join(lines)
