"""Small wheels built in the tests, so that environments are really installed, fast and without a network."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = (), *, broken: bool = False) -> str:
    """Write a wheel of one empty module, or of a source that does not build, and return its SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    if broken:
        return _make_broken_source(folder, name, version)
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {need}\n" for need in requires)
    files = {
        f"{module}/__init__.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{_hashed(text)},{len(text)}\n" for path, text in files.items()) + f"{info}/RECORD,,\n"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for place, text in {**files, f"{info}/RECORD": record}.items():
            # A fixed time: the same wheel always has the same hash.
            wheel.writestr(zipfile.ZipInfo(place, (2025, 1, 1, 0, 0, 0)), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hashed(text: str) -> str:
    """The hash of a file as RECORD states it (Binary distribution format, "The .dist-info directory")."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def _make_broken_source(folder: Path, name: str, version: str) -> str:
    path = folder / f"{name}-{version}.zip"
    backend = "def build_wheel(*_):\n    raise SystemExit('no compiler')\n"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    with zipfile.ZipFile(path, "w") as source:
        for place, text in {"pyproject.toml": project, "backend.py": backend}.items():
            source.writestr(zipfile.ZipInfo(f"{name}-{version}/{place}", (2025, 1, 1, 0, 0, 0)), text)
    return hashlib.sha256(path.read_bytes()).hexdigest()
