"""The tensors of a safetensors file: names, shapes, and what their values are. Host side, without torch.

The library proves that the file is well-formed. Values are read from it in pieces, because an adapter may be larger
than the memory of the machine that looks at it.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import safetensors

from finetune_compat.contract.errors import AdapterError
from finetune_compat.inspect.nesting import parsed
from finetune_compat.inspect.values import NO_VALUES, READABLE, Values, together, values_of

WEIGHTS = "adapter_model.safetensors"
"""What PEFT calls the file."""

PIECE = 1 << 15
"""Elements read at once. As doubles they stay under what malloc gives back to the system each time: larger pieces took
three times as long.
"""

_LENGTH = 8
"""Bytes before the header: its length, little-endian (the format's own definition)."""

_LONGEST_HEADER = 100_000_000
"""Bytes the format allows a header. A larger number in its place is some other file's beginning."""

_PICKLE = re.compile(rb"PK\x03\x04|\x80[\x02-\x05][\x28-\xff]")
"""How torch.save (a zip, in releases before 1.6 a bare pickle) and pickle.dump begin: after its protocol a pickle has
an opcode, and none is below 0x28. A safetensors header of 640 bytes begins with the same first two bytes.
"""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file."""

    name: str
    dtype: str
    """As the format spells it: `F32`, `BF16`, `F8_E4M3`."""
    shape: tuple[int, ...]
    elements: int
    values: Values | None
    """None where the dtype is none of those read here (`READABLE`)."""
    sha256: str
    """Of its bytes: equal tensors have equal digests."""

    @property
    def all_zero(self) -> bool:
        """Whether it has elements and every one is exactly zero."""
        return self.values is not None and 0 < self.elements == self.values.zero


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole file."""

    path: Path
    size: int
    """Bytes on disk."""
    metadata: dict[str, str]
    """What its writer noted in it; PEFT writes `format: pt`."""
    tensors: tuple[Tensor, ...]
    """In the order of their names, numbers in them counted as numbers are."""


# ------------------------------------------------------------------------------------------------------------- reading


def read_weights(path: Path) -> Weights:
    """Every tensor of the safetensors file at `path`, all of it read once.

    Raises:
        AdapterError: the file is empty, cut off, a pickle, or not a safetensors file.
    """
    header = _header(path)
    metadata = header.pop("__metadata__", {})
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        start = _LENGTH + length
        tensors = [_tensor(file, start, name, header[name]) for name in sorted(header, key=_natural)]
    return Weights(path, path.stat().st_size, metadata, tuple(tensors))


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def pickled(path: Path, what: str) -> AdapterError:
    """The refusal of a pickle, with the way out of it."""
    return AdapterError(
        what,
        where=str(path),
        meaning="A pickle is not looked into: reading one runs whatever code its maker put into it.",
        todo="If you trust where it comes from, convert it, in its directory and with the stack that made it:\n"
        '  python -c "import torch, safetensors.torch as st; '
        f"t = torch.load('{path.name}', map_location='cpu', weights_only=True); "
        f"st.save_file({{k: v.contiguous() for k, v in t.items()}}, '{WEIGHTS}', {{'format': 'pt'}})\"",
    )


def _header(path: Path) -> dict[str, Any]:
    """The file's header, which the library has found to describe exactly the bytes that follow it.

    The library decides what a safetensors file is, and runs nothing of it. First bytes decide only why it refused one:
    the length of a header may equal the first bytes of any other format.
    """
    if not path.stat().st_size:
        raise AdapterError(
            "the file is empty",
            where=str(path),
            meaning="The process that saved it ended before it had written anything, or the disk was full.",
            todo="Save the adapter again, or take an earlier checkpoint.",
        )
    opened: Any = safetensors.safe_open  # its stubs leave the types of a context manager open
    try:
        with opened(path, framework="numpy"):
            return _decoded(path)
    except safetensors.SafetensorError as error:
        raise (
            _cut_off(path)
            or _stranger(path)
            or AdapterError(
                f"is not a safetensors file: {error}",
                where=str(path),
                meaning="Something else was saved under this name, or the file was damaged on its way.",
                todo="Save the adapter again with save_pretrained, or copy it again.",
            )
        ) from None


def _stranger(path: Path) -> AdapterError | None:
    """The error to raise if the file begins as a format that is known here; None if it does not."""
    with path.open("rb") as file:
        begins = file.read(len(_LFS_POINTER))
    if _PICKLE.match(begins):
        return pickled(path, "is a pickle under the name of a safetensors file")
    if begins != _LFS_POINTER:
        return None
    return AdapterError(
        "is a pointer of Git LFS, not the file it points to",
        where=str(path),
        meaning="The repository was cloned without Git LFS.",
        todo="Fetch the file: git lfs pull.",
    )


def _decoded(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(_LENGTH))
        header: dict[str, Any] = parsed(file.read(length), object_pairs_hook=partial(_without_repetition, path))
    return header


def _without_repetition(path: Path, items: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in items]
    repeated = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if repeated:
        raise AdapterError(
            f"names the same tensor twice: {', '.join(repeated)}",
            where=str(path),
            meaning="No library writes such a header; which of the two is loaded depends on the reader.",
            todo="Save the adapter again with save_pretrained.",
        )
    return dict(items)


def _cut_off(path: Path) -> AdapterError | None:
    """The error to raise if the file ends before what its header announces; None if that is not what is wrong."""
    size = path.stat().st_size
    promised = _promised(path, size)
    if promised is None or promised <= size:
        return None
    return AdapterError(
        f"is cut off: its header announces {promised:,} bytes, and it has {size:,}",
        where=str(path),
        meaning="Saving, copying or downloading it did not finish.",
        todo="Copy it again; if it was cut off where it was saved, take an earlier checkpoint.",
    )


def _promised(path: Path, size: int) -> int | None:
    """Bytes a whole file of this beginning has; None if it does not begin as one."""
    with path.open("rb") as file:
        begins = file.read(_LENGTH)
        if len(begins) < _LENGTH:
            return None
        (length,) = struct.unpack("<Q", begins)
        if length > _LONGEST_HEADER:
            return None
        if _LENGTH + length > size:
            return _LENGTH + length if file.read(1) in (b"{", b"") else None
        try:
            entries = parsed(file.read(length)).items()
            ends = [int(entry["data_offsets"][1]) for name, entry in entries if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            return None
    return int(_LENGTH + length + max(ends, default=0))


# -------------------------------------------------------------------------------------------------------------- values


def _tensor(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> Tensor:
    begin, end = entry["data_offsets"]
    dtype, shape = entry["dtype"], tuple(entry["shape"])
    digest, values = hashlib.sha256(), NO_VALUES
    width, decode = READABLE.get(dtype, (1, None))
    file.seek(start + begin)
    for piece in _pieces(file, end - begin, PIECE * width):
        digest.update(piece)
        if decode is not None:
            values = together(values, values_of(decode(piece)))
    return Tensor(name, dtype, shape, math.prod(shape), values if decode else None, digest.hexdigest())


def _pieces(file: BinaryIO, length: int, piece: int) -> Iterator[bytes]:
    while length > 0:
        read = file.read(min(piece, length))
        if not read:
            raise AdapterError(
                "became shorter while it was read",
                where=file.name,
                meaning="Something is writing to it.",
                todo="Wait until it is saved, and look again.",
            )
        yield read
        length -= len(read)
