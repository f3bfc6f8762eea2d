"""Start an unpacked bundle: check that all files of all parts are present, and install the host side from wheels.

This file is copied to the top of a bundle and runs there as `python3 start.py`, with the bundle's Python. It imports
only the standard library, because the harness may be incomplete. Running it again repeats everything.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

NAMED = 4
"""Maximum number of files that an error names."""

_LAUNCHER = """#!/bin/sh
# Written by start.py. This machine has no registry: uv works offline and downloads no Python.
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/.host/bin:$PATH" UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never \\
  exec "$here/.host/bin/python" -m finetune_compat "$@"
"""


class Refusal(Exception):
    """A problem of the bundle or the machine, and what to do. The program exits with `code`."""

    def __init__(self, what: str, meaning: str, todo: str, code: int) -> None:
        super().__init__(f"{ROOT.name}: {what}\n{meaning}\n{todo}")
        self.code = code


INCOMPLETE = 4
"""`ExitCode.BAD_INPUT` of the harness."""
NO_ENVIRONMENT = 5
"""`ExitCode.ENVIRONMENT` of the harness."""


def main() -> None:
    """Check the bundle, install its host side, and print the next command."""
    try:
        manifest = read_manifest()
        refuse_other_python(manifest["python"])
        refuse_incomplete(manifest)
        make_host()
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(refusal.code)
    print(f"{ROOT.name}: all {len(manifest['files'])} files are here, of commit {manifest['commit'][:12]}")
    print(about_torch(manifest["torch"]))
    print("next: " + next_command(manifest))


def read_manifest() -> dict[str, Any]:
    """Read the manifest, which every part contains."""
    try:
        manifest: dict[str, Any] = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(
            f"its manifest cannot be read: {error}",
            "No part was unpacked here, or one was unpacked incompletely.",
            "Unpack every part (`tar -xf PART`) in the same place.",
            INCOMPLETE,
        ) from None
    return manifest


def refuse_other_python(wanted: str) -> None:
    """Raise `Refusal` if this is not the bundle's Python."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != wanted:
        raise Refusal(
            f"it is for Python {wanted}, and this is {here} at {sys.executable}",
            "Its wheels fit that Python only.",
            f"Run start.py with the Python {wanted} that has torch, or make a bundle with --python {here}.",
            INCOMPLETE,
        )


def refuse_incomplete(manifest: dict[str, Any]) -> None:
    """Raise `Refusal` if a file is missing or differs from the packed one."""
    files = manifest["files"]
    missing = [name for name in files if not (ROOT / name).is_file()]
    if missing:
        raise _missing(manifest, missing)
    other = [name for name, packed in files.items() if _sha256(ROOT / name) != packed["sha256"]]
    if other:
        parts = _parts(manifest, {files[name]["part"] for name in other})
        raise Refusal(
            f"not what was packed: {_some(other)}",
            "The file was changed or damaged, or parts of two bundles were unpacked in one place.",
            f"Compare the hash of the part with the sender's, and unpack {parts} again.",
            INCOMPLETE,
        )


def _missing(manifest: dict[str, Any], missing: list[str]) -> Refusal:
    files = manifest["files"]
    here = {packed["part"] for name, packed in files.items() if name not in missing}
    absent = {files[name]["part"] for name in missing} - here
    if absent:
        many = f"{len(absent)} of its {manifest['parts']} parts {'is' if len(absent) == 1 else 'are'}"
        return Refusal(
            f"{many} not here: {_parts(manifest, absent)}",
            "A bundle can be used when all parts are unpacked in the same place, in any order.",
            "Copy the missing parts here, unpack them, and run start.py again.",
            INCOMPLETE,
        )
    return Refusal(
        f"{len(missing)} of its files {'is' if len(missing) == 1 else 'are'} missing: {_some(missing)}",
        "A part was unpacked incompletely, or the files were removed.",
        f"Unpack {_parts(manifest, {files[name]['part'] for name in missing})} again.",
        INCOMPLETE,
    )


def _parts(manifest: dict[str, Any], numbers: set[int]) -> str:
    return ", ".join(f"compat-bundle-{manifest['id']}-{number}of{manifest['parts']}.tar" for number in sorted(numbers))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def make_host() -> None:
    """Install the host side into `.host`, and then write the launcher `compat`, which runs in it."""
    launcher, host = ROOT / "compat", ROOT / ".host"
    if launcher.exists():
        launcher.unlink()
    _run(
        [sys.executable, "-m", "venv", "--clear", str(host)],
        "this Python cannot create a virtual environment",
        "On Debian and Ubuntu, `venv` needs the package python3-venv.",
    )
    python = str(host / "bin" / "python")
    wheels, asked = str(ROOT / "wheels"), str(ROOT / "host.txt")
    # --isolated ignores the pip configuration of this machine, which is for a registry.
    command = [python, "-m", "pip", "install", "--isolated", "--disable-pip-version-check", "--quiet", "--no-index"]
    _run(
        [*command, "--find-links", wheels, "--only-binary", ":all:", "--require-hashes", "--requirement", asked],
        "the host side cannot be installed",
        "All wheels are present. This machine has another platform than the manifest, or the disk is full.",
    )
    site = next(host.glob("lib/python3*/site-packages"))
    (site / "compat-bundle.pth").write_text(f"{ROOT / 'harness'}\n", encoding="utf-8")
    launcher.write_text(_LAUNCHER, encoding="utf-8")
    launcher.chmod(0o755)


def _run(command: list[str], what: str, meaning: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        said = done.stdout.decode(errors="replace").strip()
        raise Refusal(
            f"{what}: {said}", meaning, f"Correct this, and run {shlex.quote(__file__)} again.", NO_ENVIRONMENT
        )


def about_torch(wanted: str) -> str:
    """Describe the torch of this Python in one line."""
    try:
        found = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return f"{sys.executable} has no torch: give a Python that has torch with --base-python"
    same = found.partition("+")[0] == wanted
    note = "" if same else f" (the matrix has {wanted}; every observation records this difference)"
    return f"{sys.executable} has torch {found}{note}"


def next_command(manifest: dict[str, Any]) -> str:
    """The command that runs every cell of the bundle's stacks."""
    words = [str(ROOT / "compat"), "run", *manifest["stacks"], "--python", manifest["python"], "--offline"]
    return shlex.join([*words, "--wheelhouse", str(ROOT), "--base-python", sys.executable])


if __name__ == "__main__":
    main()
