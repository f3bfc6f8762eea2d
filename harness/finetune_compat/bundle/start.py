"""Start an unpacked bundle: prove that every file of every part is here, and make the host side from its wheels.

It is copied to the top of a bundle and runs there as `python3 start.py`, with the Python the bundle is for: standard
library only, and nothing of the harness, which may not be whole yet. Run again it makes the same again.
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
"""How many files an error names."""

_LAUNCHER = """#!/bin/sh
# Made by start.py. There is no registry here: uv asks for none, and no Python is downloaded.
here=$(cd "$(dirname "$0")" && pwd)
PATH="$here/.host/bin:$PATH" UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never \\
  exec "$here/.host/bin/python" -m finetune_compat "$@"
"""


class Refusal(Exception):
    """What is wrong with the bundle or the machine, and what to do. Ends the program with `code`."""

    def __init__(self, what: str, meaning: str, todo: str, code: int) -> None:
        super().__init__(f"{ROOT.name}: {what}\n{meaning}\n{todo}")
        self.code = code


INCOMPLETE = 4
"""`ExitCode.BAD_INPUT` of the harness."""
NO_ENVIRONMENT = 5
"""`ExitCode.ENVIRONMENT` of the harness."""


def main() -> None:
    """Check the bundle, make its host side, say what comes next."""
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
    """The manifest, which every part holds."""
    try:
        manifest: dict[str, Any] = json.loads((ROOT / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refusal(
            f"its manifest cannot be read: {error}",
            "No part was unpacked here, or not to its end.",
            "Unpack every part (`tar -xf PART`) in the same place.",
            INCOMPLETE,
        ) from None
    return manifest


def refuse_other_python(wanted: str) -> None:
    """A bundle's wheels are for one Python."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if here != wanted:
        raise Refusal(
            f"it is for Python {wanted}, and this is {here} at {sys.executable}",
            "Its wheels fit that Python only.",
            f"Start it with the Python {wanted} that has torch, or make a bundle with --python {here}.",
            INCOMPLETE,
        )


def refuse_incomplete(manifest: dict[str, Any]) -> None:
    """Every file is here, and is what was packed."""
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
            f"Compare it with the sender's, and unpack {parts} again.",
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
            "Bring what is missing, unpack it here, and start again.",
            INCOMPLETE,
        )
    return Refusal(
        f"{len(missing)} of its files {'is' if len(missing) == 1 else 'are'} missing: {_some(missing)}",
        "A part was not unpacked to its end, or the file was removed.",
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
    """The environment of the harness itself, in `.host`, and `compat`, which runs in it. That is written last."""
    launcher, host = ROOT / "compat", ROOT / ".host"
    if launcher.exists():
        launcher.unlink()
    _run(
        [sys.executable, "-m", "venv", "--clear", str(host)],
        "this Python cannot make a virtual environment",
        "On Debian and Ubuntu `venv` is a package of its own (python3-venv).",
    )
    python = str(host / "bin" / "python")
    wheels, asked = str(ROOT / "wheels"), str(ROOT / "host.txt")
    # --isolated: what pip is configured for on this machine is about a registry.
    command = [python, "-m", "pip", "install", "--isolated", "--disable-pip-version-check", "--quiet", "--no-index"]
    _run(
        [*command, "--find-links", wheels, "--only-binary", ":all:", "--require-hashes", "--requirement", asked],
        "the host side cannot be installed",
        "Its wheels are all here: this machine is of another kind than the manifest's platform, or the disk is full.",
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
            f"{what}: {said}", meaning, f"Correct that, and run {shlex.quote(__file__)} again.", NO_ENVIRONMENT
        )


def about_torch(wanted: str) -> str:
    """One line on the torch of this Python."""
    try:
        found = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return f"{sys.executable} has no torch: name the Python that has one with --base-python"
    same = found.partition("+")[0] == wanted
    note = "" if same else f" (the matrix says {wanted}; every observation will say that this is another)"
    return f"{sys.executable} has torch {found}{note}"


def next_command(manifest: dict[str, Any]) -> str:
    """What runs every cell of the bundle's stacks."""
    words = [str(ROOT / "compat"), "run", *manifest["stacks"], "--python", manifest["python"], "--offline"]
    return shlex.join([*words, "--wheelhouse", str(ROOT), "--base-python", sys.executable])


if __name__ == "__main__":
    main()
