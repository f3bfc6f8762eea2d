"""Installed environments, from the names of their metadata folders. No interpreter is run."""

from __future__ import annotations

import json
import re
from pathlib import Path

from finetune_compat.contract.errors import why
from finetune_compat.machine.foreign import read_whole
from finetune_compat.stacks.project_files.entries import is_version, of_pin
from finetune_compat.stacks.project_files.text import broken
from finetune_compat.stacks.project_files.value import (
    DEFAULT_INDEX,
    Kind,
    Origin,
    Package,
    Place,
    Project,
    Source,
    Unread,
    unread,
)

INTERPRETER = re.compile(r"(?:python|pypy)(?:[23](?:\.\d+)?)?t?(?:\.exe)?")
"""Names of interpreters."""

_KIND = Kind.ENVIRONMENT
_METADATA = re.compile(r"(.+?)-([^-]+?)(?:-py\d\.\d+)?\.(?:dist-info|egg-info)")
_SITES = ("lib/python3*/site-packages", "lib64/python3*/site-packages", "lib/pypy3*/site-packages")
_OF_DEBIAN = ("lib/python3/dist-packages", "local/lib/python3*/dist-packages", "lib/python3*/dist-packages")
_LARGEST_FILE = 100_000


def is_environment(folder: Path) -> bool:
    """Whether a folder is a virtual environment, a conda environment or the prefix of a Python."""
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir() or bool(_sites(folder))


def read(named: Path, folder: Path) -> Project:
    """The packages that are installed in an environment.

    Args:
        named: what the user named: the folder or its interpreter.
        folder: the environment.

    Raises:
        ProjectFileError: there is no site-packages, or it cannot be read.
    """
    try:
        settings = _settings(folder)
        sites = _sites(folder)
        if not sites:
            raise broken(_KIND, Place(str(named)), "there is no site-packages in it")
        if settings.get("include-system-site-packages") == "true" and "home" in settings:
            sites += _sites(Path(settings["home"]).parent)
        found = _Found()
        for site in sites:
            found.take(site)
    except OSError as error:
        raise broken(_KIND, Place(str(named)), f"it cannot be read: {why(error)}") from None
    python = _python(settings, sites)
    return Project(
        _KIND, folder, tuple(found.packages.values()), tuple(found.unread), f"=={python}.*" if python else ""
    )


def _sites(folder: Path) -> list[Path]:
    patterns = (*_SITES, *(_OF_DEBIAN if folder in (Path("/usr"), Path("/usr/local")) else ()))
    # `lib64` is usually a link to `lib`.
    found: dict[Path, Path] = {}
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            found.setdefault(path.resolve(), path)
    return [*found.values()]


def _settings(folder: Path) -> dict[str, str]:
    file = folder / "pyvenv.cfg"
    if not file.is_file():
        return {}
    try:
        text = read_whole(file, _LARGEST_FILE).decode("utf-8", "replace")
    except ValueError:
        return {}
    lines = (line.partition("=") for line in text.splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in lines}


def _python(settings: dict[str, str], sites: list[Path]) -> str:
    """The minor version of the environment's Python; empty if nothing states it."""
    stated = settings.get("version_info") or settings.get("version") or ""
    texts = (stated, *(site.parent.name for site in sites))
    return next((match[1] for text in texts if (match := re.search(r"(3\.\d+)", text))), "")


class _Found:
    """Installed packages by name. Of several with one name, Python imports the first."""

    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}
        self.unread: list[Unread] = []

    def take(self, site: Path) -> None:
        """Read one site-packages."""
        for entry in sorted(site.iterdir()):
            match = _METADATA.fullmatch(entry.name)
            if match is None:
                continue
            place = Place(str(entry))
            if entry.name.startswith("~") or not is_version(match[2]):
                self.unread.append(unread(entry.name, "the leftover of a broken installation", place))
                continue
            package = of_pin(match[1], match[2].replace("_", "-"), place, _KIND, source=_source(entry))
            self.packages.setdefault(package.name, package)


def _source(metadata: Path) -> Source:
    """The source in direct_url.json, which installers write for everything that is not from an index."""
    try:
        file = metadata / "direct_url.json"
        if not file.is_file() or file.stat().st_size > _LARGEST_FILE:
            return DEFAULT_INDEX
        raw = json.loads(file.read_bytes())
        address = str(raw["url"])
        if "vcs_info" in raw:
            return Source(Origin.GIT, f"git+{address}@{raw['vcs_info']['commit_id']}")
        return Source(Origin.PATH if address.startswith("file:") else Origin.URL, address)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Source(Origin.URL, "")
