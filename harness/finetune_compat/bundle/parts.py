"""A bundle as tar files. Each part contains whole files, the manifest and `start.py`. So parts can be unpacked in any
order, and each part knows which others belong to it.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.names import is_plain
from finetune_compat.machine.files import sha256_of, write_atomically

FOLDER = "compat-bundle"
"""The folder that all parts unpack into."""
WHEELS = "wheels"
MANIFEST = "manifest.json"
SCHEMA = 1
MIB = 1024 * 1024

_PART = re.compile(rf"{FOLDER}-[0-9a-f]{{8}}-[0-9]+of[0-9]+\.tar")
_BLOCK = 512
_HEADERS = 3 * _BLOCK
"""A member's header, and the two pax blocks of a name over 100 characters."""
_END = 20 * _BLOCK
"""Two empty blocks at the end, padded by tarfile to a full record."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the bundle: its name there, and its current path."""

    name: str
    path: Path
    size: int
    sha256: str


def item(name: str, path: Path) -> Item:
    """Return `path` as the file `name` of a bundle."""
    return Item(name, path, path.stat().st_size, sha256_of(path))


def pack(items: Sequence[Item], start: Path, facts: Mapping[str, Any], folder: Path, limit: int | None) -> list[Path]:
    """Create `folder`, write the parts into it, and return them in order.

    Args:
        items: the files of the bundle.
        start: the start program, which every part contains.
        facts: additional fields of the manifest.
        folder: the folder for the parts.
        limit: maximum size of a part in bytes; None for one part.

    Raises:
        CompatError: a file does not fit into a part.
    """
    size = _END + _cost(start.stat().st_size) + _cost(len(_manifest(items, {}, len(items), facts)))
    places = _places(items, None if limit is None else limit - size)
    parts = max(places.values(), default=1)
    manifest = _manifest(items, places, parts, facts)
    folder.mkdir(parents=True)
    names = [part_name(json.loads(manifest)["id"], number, parts) for number in range(1, parts + 1)]
    for number, name in enumerate(names, 1):
        with tarfile.open(folder / name, "w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, MANIFEST, manifest)
            _add(tar, "start.py", start.read_bytes())
            for each in sorted(items, key=lambda each: each.name):
                if places[each.name] == number:
                    tar.add(each.path, f"{FOLDER}/{each.name}", filter=_plain)
    return [folder / name for name in names]


def part_name(identity: str, number: int, parts: int) -> str:
    """The file name of a part."""
    return f"{FOLDER}-{identity}-{number}of{parts}.tar"


def _places(items: Sequence[Item], room: int | None) -> dict[str, int]:
    """Part number by file: largest files first, each in the first part with room for it."""
    left: list[int] = []
    places: dict[str, int] = {}
    for each in sorted(items, key=lambda each: (-each.size, each.name)):
        cost = _cost(each.size)
        if room is not None and cost > room:
            raise _too_large(each, room)
        number = next((index for index, free in enumerate(left) if room is None or free >= cost), len(left))
        if number == len(left):
            left.append(room or 0)
        left[number] -= cost
        places[each.name] = number + 1
    return places


def _too_large(each: Item, room: int) -> CompatError:
    return CompatError(
        f"{Path(each.name).name} is {each.size / MIB:.1f} MiB, and a part has room for {max(room, 0) / MIB:.1f} MiB",
        where="--max-size",
        meaning="Files are not split: each part contains whole files and the manifest.",
        todo=f"Allow parts of {-(-(each.size + MIB) // MIB) + 1} MiB or more.",
    )


def _cost(size: int) -> int:
    """Maximum bytes of a file of `size` bytes in a tar."""
    return _HEADERS + -(-size // _BLOCK) * _BLOCK


def _manifest(items: Sequence[Item], places: Mapping[str, int], parts: int, facts: Mapping[str, Any]) -> bytes:
    """The manifest. Its id depends on the contents, not on how they are split into parts."""
    ordered = sorted(items, key=lambda each: each.name)
    identity = hashlib.sha256("".join(f"{each.name} {each.sha256}\n" for each in ordered).encode()).hexdigest()[:8]
    files = {
        each.name: {"sha256": each.sha256, "size": each.size, "part": places.get(each.name, parts)} for each in ordered
    }
    whole = {"schema": SCHEMA, "id": identity, **facts, "parts": parts, "files": files}
    return json.dumps(whole, indent=1).encode()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(f"{FOLDER}/{name}")
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, BytesIO(content))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove the owner and the mode, which have no meaning on the target machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def refuse_other_contents(folder: Path) -> None:
    """Refuse to replace an existing path, unless it is a folder that is empty or contains a bundle.

    Raises:
        CompatError: `folder` contains other files, or is a file.
    """
    if not folder.exists():
        return
    others = (
        sorted(path.name for path in folder.iterdir() if not _PART.fullmatch(path.name)) if folder.is_dir() else [""]
    )
    if others:
        raise CompatError(
            f"it contains files other than parts of a bundle, for example {others[0]}" if others[0] else "it is a file",
            where=f"--out {folder}",
            meaning="The new bundle replaces the whole folder.",
            todo="Name a folder that does not exist, is empty, or contains an earlier bundle.",
        )


def take_wheels(bundle: Path, wanted: Collection[str], folder: Path) -> None:
    """Copy wheels of an earlier bundle whose SHA-256 is in `wanted` into `folder`, so that none is downloaded twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in sorted(bundle.glob("*.tar")):
        # From a damaged part, readable wheels are copied; the others are downloaded.
        with suppress(tarfile.TarError, OSError), tarfile.open(part) as tar:
            for member in tar:
                _take(tar, member, wanted, folder)


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, wanted: Collection[str], folder: Path) -> None:
    place, _, name = member.name.rpartition("/")
    ours = place == f"{FOLDER}/{WHEELS}" and is_plain(name) and name.endswith(".whl")
    content = tar.extractfile(member) if ours and member.isfile() else None
    if content is None or (folder / name).exists():
        return
    data = content.read()
    if hashlib.sha256(data).hexdigest() in wanted:
        write_atomically(folder / name, data)
