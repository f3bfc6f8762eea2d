"""A bundle as tar files: each holds whole files, the manifest and `start.py`, so that any order of unpacking gives the
same folder and any part can tell which others belong to it.
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

from finetune_compat.bundle.wheels import sha256_of
from finetune_compat.contract.errors import CompatError
from finetune_compat.contract.names import is_plain
from finetune_compat.machine.files import write_atomically

FOLDER = "compat-bundle"
"""What all parts unpack into."""
WHEELS = "wheels"
MANIFEST = "manifest.json"
SCHEMA = 1
MIB = 1024 * 1024

_PART = re.compile(rf"{FOLDER}-[0-9a-f]{{8}}-[0-9]+of[0-9]+\.tar")
_BLOCK = 512
_HEADERS = 3 * _BLOCK
"""A member's header, and the two blocks that a name over 100 characters takes besides (pax)."""
_END = 20 * _BLOCK
"""Two empty blocks, filled up to the record that tarfile ends a file with."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of the bundle: its place there, and where it is now."""

    name: str
    path: Path
    size: int
    sha256: str


def item(name: str, path: Path) -> Item:
    """`path` as the file `name` of a bundle."""
    return Item(name, path, path.stat().st_size, sha256_of(path))


def pack(items: Sequence[Item], start: Path, facts: Mapping[str, Any], folder: Path, limit: int | None) -> list[Path]:
    """Write the parts into `folder`, which is made, and return them in order.

    Args:
        items: what the bundle holds.
        start: the program that starts it, which every part holds.
        facts: what else its manifest says.
        folder: where the parts are written.
        limit: bytes a part may have; None for one part.

    Raises:
        CompatError: a file is larger than a part may be.
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
    """The part of each file: the largest first, each in the first part that has room for it."""
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
        meaning="No file is cut: each part holds whole files, and beside them the manifest.",
        todo=f"Allow parts of {-(-(each.size + MIB) // MIB) + 1} MiB or more.",
    )


def _cost(size: int) -> int:
    """What a file of `size` bytes takes in a tar, at most."""
    return _HEADERS + -(-size // _BLOCK) * _BLOCK


def _manifest(items: Sequence[Item], places: Mapping[str, int], parts: int, facts: Mapping[str, Any]) -> bytes:
    """The manifest. Its id is that of the contents, however they are parted."""
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
    """Whose file it was here means nothing there."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member


def refuse_other_contents(folder: Path) -> None:
    """A folder that is there is written over only if it is a bundle, or empty.

    Raises:
        CompatError: it holds something else, or is no folder.
    """
    if not folder.exists():
        return
    others = (
        sorted(path.name for path in folder.iterdir() if not _PART.fullmatch(path.name)) if folder.is_dir() else [""]
    )
    if others:
        raise CompatError(
            f"it holds other files than the parts of a bundle, such as {others[0]}" if others[0] else "it is a file",
            where=f"--out {folder}",
            meaning="The folder is replaced as a whole by the new bundle.",
            todo="Name a folder that is not there yet, or that holds an earlier bundle.",
        )


def take_wheels(bundle: Path, wanted: Collection[str], folder: Path) -> None:
    """Copy the wheels of an earlier bundle whose SHA-256 is in `wanted` into `folder`: none is fetched twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in sorted(bundle.glob("*.tar")):
        # A damaged part gives what can still be read of it, and what it cannot give is fetched.
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
