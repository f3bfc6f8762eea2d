"""Build a wheel of a package that no index has a wheel of: a source distribution, a repository, or a folder.

Its build backend runs, as with `pip install`. So only what the user asks for by name is built.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from finetune_compat.contract.errors import InstallError
from finetune_compat.contract.redaction import redact_here
from finetune_compat.machine.files import write_atomically
from finetune_compat.machine.places import places
from finetune_compat.stacks.uv_tool import bare_environ

LIMIT_S = 300
"""Time limit of one build. A package with CUDA kernels takes longer, and does not run here anyway."""

FAILED_FOR_S = 24 * 3600
"""Seconds for which a build that failed is not tried again: a compiler may be installed meanwhile."""

_ERROR = re.compile(r"\s*(?:ERROR|error|\w+Error|fatal)\b")
_OF_THE_SOURCE = re.compile(r"subprocess-exited-with-error|Failed to build|Failed building wheel")
"""What pip prints if a build backend failed. Without it, the index or the disk is at fault."""
_OF_THE_INDEX = re.compile(r"install build dependencies did not run|No matching distribution|ConnectionError|timed out")


@dataclass(frozen=True, slots=True)
class Built:
    """A wheel that this machine built, alone in its folder: other locks must not resolve to it."""

    name: str
    version: str
    folder: Path


def folder() -> Path:
    """The folder of the folders of wheels that this machine built."""
    return places().environments / "wheels"


def build(source: str, *, mark: bool, wheels: Path | None = None, fresh: bool = False) -> Built:
    """Build the wheel of `source`, a requirement, a URL or a path, in a folder below `wheels`.

    A release of the index whose build failed is not built again for `FAILED_FOR_S`, because it would fail again.

    Args:
        source: what pip installs. Credentials in it are not printed.
        mark: add a digest of the content to the version, because an index may have another wheel of this version.
        wheels: the folder of all such folders; by default `folder()`.
        fresh: build it also if it failed before.

    Raises:
        InstallError: it does not build, is not a wheel, or takes too long.
    """
    if (known := _known(source, wheels or folder())) is not None:
        return known
    failure = _Failure.of(source, wheels or folder())
    if not fresh and (reason := failure.read()):
        raise _failed(source, reason)
    with tempfile.TemporaryDirectory() as scratch:
        made = _run_pip(source, Path(scratch), failure)
        try:
            name, version, *_ = parse_wheel_filename(made.name)
            files = _files(made)
            local = f"+{f'{version.local}.' if version.local else ''}h{_digest(files)}"
            final = f"{version.public}{local}" if mark else str(version)
            into = (wheels or folder()) / f"{name}-{final}"
            into.mkdir(parents=True, exist_ok=True)
            _write(files, made, final, into)
        except (InvalidWheelFilename, zipfile.BadZipFile, StopIteration):
            raise _failed(source, "it is not a wheel") from None
        return Built(str(name), final, into)


def _known(pin: str, wheels: Path) -> Built | None:
    """The wheel that an earlier call built for an exact pin."""
    name, _, version = pin.partition("==")
    into = wheels / f"{name}-{version}"
    return Built(name, version, into) if version and any(into.glob("*.whl")) else None


@dataclass(frozen=True, slots=True)
class _Failure:
    """Remembers that a release of the index did not build, by a digest of its name: a name may hold credentials."""

    file: Path | None
    """None for what may change from one call to the next: a folder, a repository or an archive."""

    @classmethod
    def of(cls, source: str, wheels: Path) -> Self:
        """That of a source."""
        digest = hashlib.sha256(f"{sys.version_info[:2]} {source}".encode()).hexdigest()[:16]
        return cls(None if "/" in source or source.endswith(".whl") else wheels / "failed" / f"{digest}.txt")

    def read(self) -> str:
        """Why it failed, and when; empty if it did not fail, or too long ago."""
        try:
            then = self.file.stat().st_mtime if self.file else 0.0
            if self.file is None or not 0 <= time.time() - then < FAILED_FOR_S:
                return ""
            at = datetime.fromtimestamp(then, UTC)
            return f"{self.file.read_text(encoding='utf-8')} (tried at {at:%Y-%m-%d %H:%M} UTC; --fresh tries again)"
        except OSError:
            return ""

    def write(self, reason: str) -> None:
        """Remember why it failed."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, redact_here(reason))


def _run_pip(source: str, into: Path, failure: _Failure) -> Path:
    """The wheel of `source`: the file itself, or one that pip made in `into`."""
    if source.endswith(".whl") and Path(source).is_file():
        return Path(source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(into), source]
    # Without a terminal for passwords, and with fixed times: the same source gives the same wheel.
    environ = {**bare_environ(), "GIT_TERMINAL_PROMPT": "0", "SOURCE_DATE_EPOCH": "315532800"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environ, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        reason = f"its build took longer than {LIMIT_S} s"
        failure.write(reason)
        raise _failed(source, reason) from None
    found = sorted(into.glob("*.whl"))
    if done.returncode or not found:
        lines = [line.strip() for line in done.stderr.splitlines() if _ERROR.match(line)]
        reason = f"it does not build here: {lines[-1].removeprefix('ERROR: ') if lines else 'pip gave no reason'}"
        if _OF_THE_SOURCE.search(done.stderr) and not _OF_THE_INDEX.search(done.stderr):
            failure.write(reason)
        raise _failed(source, reason)
    return found[0]


def _failed(source: str, problem: str) -> InstallError:
    return InstallError(
        problem,
        where=source,
        meaning="Its source needs a compiler, a GPU or an address that this machine does not have.",
        todo="Name a wheel, or a release that has one.",
    )


def _files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as there:
        return {item.filename: there.read(item) for item in there.infolist() if not item.is_dir()}


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()[:12]


def _write(files: Mapping[str, bytes], wheel: Path, version: str, into: Path) -> None:
    """Write a wheel of these files with another version."""
    name, _, *tags = wheel.stem.split("-")
    path = into / f"{'-'.join((name, version, *tags[-3:]))}.whl"
    old = next(item.removesuffix("METADATA") for item in files if item.endswith(".dist-info/METADATA"))
    new = f"{name}-{version}.dist-info/"
    changed: dict[str, bytes] = {}
    for file, content in files.items():
        if file == f"{old}METADATA":
            content = re.sub(rb"(?m)^Version: .*$", b"Version: " + version.encode(), content, count=1)  # noqa: PLW2901
        if file != f"{old}RECORD":
            changed[_moved(file, old.removesuffix(".dist-info/"), f"{name}-{version}")] = content
    changed[f"{new}RECORD"] = _record(changed, f"{new}RECORD").encode()
    with tempfile.NamedTemporaryFile(dir=into, delete=False) as partly, zipfile.ZipFile(partly, "w") as after:
        for file, content in changed.items():
            # A fixed time, so that the same source gives the same hash.
            after.writestr(zipfile.ZipInfo(file), content, zipfile.ZIP_DEFLATED)
    Path(partly.name).replace(path)


def _moved(file: str, old: str, new: str) -> str:
    """The path of a file after its wheel got another version."""
    moves = file.startswith((f"{old}.dist-info/", f"{old}.data/"))
    return new + file.removeprefix(old) if moves else file


def _record(files: Mapping[str, bytes], own: str) -> str:
    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    for file, content in files.items():
        digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow((file, f"sha256={digest}", len(content)))
    rows.writerow((own, "", ""))
    return lines.getvalue()
