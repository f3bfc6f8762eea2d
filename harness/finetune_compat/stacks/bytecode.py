"""Bytecode of packages, which environments share: what one has compiled the next one need not.

Compiling what a stack imports takes longer than importing it. Most of it, torch above all, is the same in every stack,
and so are many files of two releases of a package.

    <cache>/<python3.11>/<first byte of the source's SHA-256>/<all of it>.pyc

Python trusts bytecode that names the time and size of its source. uv links sources from its cache, so that those of one
release have one time in all environments, whose bytecode is then one file with several names. Where the time is
another, as in another release, the environment gets a copy that names its own.
"""

from __future__ import annotations

import functools
import os
import re
import struct
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

_HEADER = struct.Struct("<4s3I")
"""Of a .pyc: Python's magic number, flags, and the source's time and size, which are there if no flag is (PEP 552)."""
_RECORDED = re.compile(r"^((?!\.\.|/)[^,\"]+\.py),sha256=([\w-]{43}),", re.ASCII | re.MULTILINE)
"""A source in an installer's RECORD (PEP 376, 427), and its hash as unpadded base64. Sources outside are scripts, which
name their environment and are compiled by nobody.
"""


def lend(site: Path, cache: Path) -> None:
    """Give the packages in `site`, a new environment's site-packages, the bytecode that `cache` has of them."""
    kept = f"{cache}/{site.parent.name}"
    there, made = _digests(kept), functools.cache(_make)
    for source, digest in _recorded(site):
        if digest in there:
            folder, name = _bytecode(site, source)
            with suppress(OSError):  # what cannot be given is compiled
                made(folder)
                _give(_place(kept, digest), Path(f"{site}/{source}"), digest, f"{folder}/{name}")


def keep(site: Path, cache: Path) -> None:
    """Keep in `cache` the bytecode that was compiled in `site`, of sources that are as they were installed."""
    kept = f"{cache}/{site.parent.name}"
    there, names, made = _digests(kept), functools.cache(_names), functools.cache(_make)
    for source, digest in _recorded(site):
        folder, name = _bytecode(site, source)
        if digest not in there and name in names(folder):
            with suppress(OSError):  # another file system, or another environment was first
                made(f"{kept}/{digest[:2]}")
                _take(Path(f"{folder}/{name}"), Path(f"{site}/{source}"), digest, _place(kept, digest))


def _give(kept: str, source: Path, digest: str, pyc: str) -> None:
    with Path(kept).open("rb") as code:
        found = code.read(_HEADER.size)
        header = _naming(found, source)
        if found == header:
            os.link(kept, pyc)
        elif _digest(source) == digest:
            # Whole or not at all: Python would trust a half of it.
            part = Path(f"{pyc}.{os.getpid()}")
            part.write_bytes(header + code.read())
            part.replace(pyc)


def _take(pyc: Path, source: Path, digest: str, kept: str) -> None:
    with pyc.open("rb") as code:
        found = code.read(_HEADER.size)
    # From here on nobody can see whether it was compiled from another text than the one it is kept for.
    if found == _naming(found, source) and _digest(source) == digest:
        os.link(pyc, kept)


def _naming(found: bytes, source: Path) -> bytes:
    """The header that makes Python trust bytecode as that of `source`; its magic number is that of the header found."""
    status = source.stat()
    return _HEADER.pack(found[:4], 0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def _bytecode(site: Path, source: str) -> tuple[str, str]:
    """Folder and name of the bytecode of `source`, a path in `site`."""
    folder, _, name = source.rpartition("/")
    return f"{site}/{folder}/__pycache__", f"{name.removesuffix('.py')}.{_tag(site)}.pyc"


def _tag(site: Path) -> str:
    return site.parent.name.replace("python", "cpython-").replace(".", "")


def _place(kept: str, digest: str) -> str:
    return f"{kept}/{digest[:2]}/{digest}.pyc"


def _digests(kept: str) -> set[str]:
    return {name.removesuffix(".pyc") for folder in _names(kept) for name in _names(f"{kept}/{folder}")}


def _names(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208 - thousands, of which the names are wanted
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()


def _make(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)


def _digest(source: Path) -> str:
    return sha256(source.read_bytes()).hexdigest()


def _recorded(site: Path) -> Iterator[tuple[str, str]]:
    """Path in `site` and SHA-256 of every source that was installed there."""
    for record in site.glob("*.dist-info/RECORD"):
        for source, digest in _RECORDED.findall(record.read_text(encoding="utf-8")):
            if "/../" not in source:  # which would lead out of `site` again
                yield source, urlsafe_b64decode(f"{digest}=").hex()
